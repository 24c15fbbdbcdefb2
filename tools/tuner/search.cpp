#include "tools/tuner/search.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>
#include <random>

#include "aft/error.h"

namespace aft::tool {
namespace {

// The same numbers with every standard library (its distributions and std::shuffle are not).
class Dice {
public:
    explicit Dice(uint64_t seed) : engine_(seed) {}
    size_t below(size_t count) { return size_t(engine_() % count); }
    template <class T>
    void shuffle(std::vector<T> &items) {
        for (size_t n = items.size(); n > 1; n--) std::swap(items[n - 1], items[below(n)]);
    }

private:
    std::mt19937_64 engine_;
};

class RandomSearch : public Search {
public:
    RandomSearch(const Space &space, int start, uint64_t seed) : space_(space), dice_(seed), given_(space.points.size(), false), start_(start) {
        for (int p = 0; p < int(space.points.size()); p++) order_.push_back(p);
        dice_.shuffle(order_);
        if (start >= 0) given_[size_t(start)] = true;
    }

    std::optional<int> next() override { return give(any()); }
    void tell(int, double) override {}

protected:
    std::optional<int> any() {
        while (!order_.empty() && given_[size_t(order_.back())]) order_.pop_back();
        return order_.empty() ? std::nullopt : std::optional(order_.back());
    }
    std::optional<int> give(std::optional<int> point) {
        if (point) given_[size_t(*point)] = true;
        return point;
    }

    const Space &space_;
    Dice dice_;
    std::vector<bool> given_;
    int start_;

private:
    std::vector<int> order_;
};

class Descent : public RandomSearch {
public:
    Descent(const Space &space, int start, uint64_t seed) : RandomSearch(space, start, seed) {
        if (start >= 0) best_ = start, best_score_ = 1, move_to(start, 1);
    }

    std::optional<int> next() override {
        while (true) {
            while (!queue_.empty() && given_[size_t(queue_.front())]) queue_.pop_front();
            if (!queue_.empty()) {
                const int point = queue_.front();
                queue_.pop_front();
                return give(point);
            }
            const std::optional<int> point = restart();
            if (!point) return std::nullopt;
            fresh_ = *point;  // it becomes the centre when its score is told, whatever that is
            return give(point);
        }
    }

    void tell(int point, double score) override {
        if (score < best_score_) best_ = point, best_score_ = score;
        const bool started = point == fresh_;
        if (started) fresh_ = -1;
        if ((started && std::isfinite(score)) || score < score_) move_to(point, score);
    }

private:
    void move_to(int centre, double score) {
        score_ = score;
        std::vector<std::pair<int, int>> steps;  // distance, point
        for (size_t k = 0; k < space_.knobs.size(); k++) {
            Point point = space_.points[size_t(centre)];
            const int here = point[k];
            for (int c = 0; c < int(space_.knobs[k].candidates.size()); c++) {
                point[k] = c;
                const int number = space_.find(point);
                if (number >= 0 && !given_[size_t(number)]) steps.emplace_back(std::abs(c - here), number);
            }
        }
        dice_.shuffle(steps);
        std::ranges::stable_sort(steps, {}, &std::pair<int, int>::first);
        queue_.clear();
        for (const auto &step : steps) queue_.push_back(step.second);
    }

    std::optional<int> restart() {
        kick_ = !kick_;
        if (kick_ && best_ >= 0) {
            std::vector<int> near;
            for (int p = 0; p < int(space_.points.size()); p++) {
                int changed = 0;
                for (size_t k = 0; k < space_.knobs.size(); k++) changed += space_.points[size_t(p)][k] != space_.points[size_t(best_)][k];
                if (changed == 2 && !given_[size_t(p)]) near.push_back(p);
            }
            if (!near.empty()) return near[dice_.below(near.size())];
        }
        return any();
    }

    std::deque<int> queue_;
    int best_ = -1, fresh_ = -1;
    double best_score_ = std::numeric_limits<double>::infinity(), score_ = std::numeric_limits<double>::infinity();
    bool kick_ = false;
};

class Guided : public RandomSearch {
public:
    Guided(const Space &space, int start, uint64_t seed) : RandomSearch(space, start, seed) {
        for (const TunedKnob &knob : space.knobs) offsets_.push_back(terms_), terms_ += knob.candidates.size();
        terms_ += 1;  // the constant
        if (start >= 0) tell(start, 1);
    }

    std::optional<int> next() override {
        const size_t first = std::max<size_t>(4, space_.knobs.size() + 1);
        if (asked_++ < first || asked_ % 6 == 0 || told_.size() < 3) return give(any());
        const std::vector<double> weights = fit();
        int chosen = -1;
        double lowest = 0;
        for (int p = 0; p < int(space_.points.size()); p++) {
            if (given_[size_t(p)]) continue;
            double predicted = 0;
            for (size_t k = 0; k < offsets_.size(); k++) predicted += weights[offsets_[k] + size_t(space_.points[size_t(p)][k])];
            if (chosen < 0 || predicted < lowest) chosen = p, lowest = predicted;
        }
        return chosen < 0 ? std::nullopt : give(chosen);
    }

    void tell(int point, double score) override {
        // A failure counts as four times slower; so does anything slower yet, which would only bend the fit.
        told_.emplace_back(point, std::isfinite(score) ? std::log(std::min(score, 4.0)) : std::log(4.0));
    }

private:
    // Ridge regression by the normal equations: at most some 60 unknowns.
    std::vector<double> fit() const {
        const size_t n = terms_;
        std::vector<double> a(n * n, 0), b(n, 0);
        std::vector<size_t> row(offsets_.size() + 1);
        for (const auto &[point, value] : told_) {
            for (size_t k = 0; k < offsets_.size(); k++) row[k] = offsets_[k] + size_t(space_.points[size_t(point)][k]);
            row.back() = n - 1;
            for (size_t i : row) {
                b[i] += value;
                for (size_t j : row) a[i * n + j] += 1;
            }
        }
        for (size_t i = 0; i < n; i++) a[i * n + i] += i + 1 == n ? 1e-6 : 0.5;
        for (size_t i = 0; i < n; i++)  // symmetric and positive definite: no pivoting
            for (size_t r = i + 1; r < n; r++) {
                const double factor = a[r * n + i] / a[i * n + i];
                if (factor == 0) continue;
                for (size_t c = i; c < n; c++) a[r * n + c] -= factor * a[i * n + c];
                b[r] -= factor * b[i];
            }
        for (size_t i = n; i-- > 0;) {
            for (size_t c = i + 1; c < n; c++) b[i] -= a[i * n + c] * b[c];
            b[i] /= a[i * n + i];
        }
        return b;
    }

    std::vector<size_t> offsets_;
    size_t terms_ = 0, asked_ = 0;
    std::vector<std::pair<int, double>> told_;
};

}  // namespace

std::unique_ptr<Search> make_search(const std::string &strategy, const Space &space, int start, uint64_t seed) {
    if (strategy == "random") return std::make_unique<RandomSearch>(space, start, seed);
    if (strategy == "descent") return std::make_unique<Descent>(space, start, seed);
    if (strategy == "guided") return std::make_unique<Guided>(space, start, seed);
    throw Error("there is no search strategy '" + strategy + "': random, descent, guided");
}

}  // namespace aft::tool
