// Waiting that is mostly short: a pause between loops, or between the turns of look-back, mostly ends before a futex has slept and woken
// (5 us each). So a thread looks often, some 30 us long, before it sleeps and others may have the core. In decoding, where a loop is some
// 20 us of work, that halves the time per token.
#pragma once

namespace aft {

// Until condition() holds or the 30 us are over; who calls then sleeps, on the same condition.
template <class Condition>
void look_for(const Condition &condition) {
    constexpr int looks = 2000;
    for (int n = 0; n < looks && !condition(); n++) __builtin_ia32_pause();
}

}  // namespace aft
