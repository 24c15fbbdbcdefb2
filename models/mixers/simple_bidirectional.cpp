// AFT-simple, not causal. The saved tensor is [3, B, C] = num, den, reference of the whole sequence.
#include "kernel_table.h"
#include "models/mixers/simple_scan.h"

namespace aft::simple {

void bidirectional_forward(const MixerTensors &in, Tensor &output, MixerSaved &saved, Arena &arena) {
    const Chunks chunks(in.query.size(0), in.query.size(1), in.query.size(2));
    const Tensor total = arena.allocate({3, chunks.B, chunks.C});
    saved.tensors = {total};
    for (int64_t b = 0; b < chunks.B; b++) clear(total.select(1, b));
    scan_keys(in, total, arena);
    const ArenaScope scope(arena);
    const Tensor guards = arena.allocate({chunks.workers(), chunks.C});
    chunks.each([&](LinkedBlock &block, int64_t first, int64_t last) {
        const auto rows = [&](const Tensor &x) { return steps(sequence(x, block.chain), chunks.begin(first), chunks.end(last - 1)); };
        Tensor y = rows(output), guard = state(guards, block.worker, y.size(1));
        const Tensor q = rows(in.query), num = row(total.select(1, block.chain), 0), den = row(total.select(1, block.chain), 1);
        kernels().aft_simple_gate_bounded_f32(q, num, den, y, guard);
        each_run(guard.data(), chunks.C, [&](int64_t first, int64_t last, bool exact) {
            Tensor some = channels(y, first, last);
            if (exact) kernels().aft_simple_gate_f32(channels(q, first, last), channels(num, first, last), channels(den, first, last), some);
        });
    });
}

void bidirectional_backward(const MixerTensors &in, const MixerSaved &saved, const Tensor &output_gradient, MixerTensors &gradient, Arena &arena) {
    const Chunks chunks(in.query.size(0), in.query.size(1), in.query.size(2));
    const ArenaScope scope(arena);
    const Tensor memory = arena.allocate({chunks.workers(), 2, chunks.C}), total_S = arena.allocate({chunks.B, 1, chunks.C});
    Tensor(total_S).fill(0);
    const auto total = [&](int64_t b, int64_t n) { return row(saved.tensors[0].select(1, b), n); };
    const auto keys = [&](int64_t b, int64_t begin, int64_t end) {
        const auto rows = [&](const Tensor &x) { return steps(sequence(x, b), begin, end); };
        Tensor dk = rows(gradient.key), dv = rows(gradient.value);
        kernels().aft_simple_key_backward_f32(rows(in.key), rows(in.value), total(b, 0), total(b, 1), total(b, 2), total_S.select(0, b), dk, dv);
    };
    chunks.each([&](LinkedBlock &block, int64_t first, int64_t last) {
        const int64_t b = block.chain;
        const Tensor scratch = memory.select(0, block.worker);
        fill_row(scratch, 0, 0);
        for (int64_t j = first; j < last; j++) {
            const auto rows = [&](const Tensor &x) { return steps(sequence(x, b), chunks.begin(j), chunks.end(j)); };
            Tensor dq = rows(gradient.query), s = state(scratch, 0, dq.size(1)), local_s = state(scratch, 1, dq.size(1));
            kernels().aft_simple_gate_backward_f32(rows(in.query), rows(output_gradient), total(b, 0), total(b, 1), dq, s, local_s);
        }
        block.in_turn([&] {
            for (int64_t c = 0; c < chunks.C; c++) total_S.select(0, b).data()[c] += scratch.data()[c];
        });
        if (!chunks.linked) keys(b, 0, chunks.T);
    });
    if (chunks.linked)
        chunks.each([&](LinkedBlock &block, int64_t first, int64_t last) { keys(block.chain, chunks.begin(first), chunks.end(last - 1)); });
}

}  // namespace aft::simple
