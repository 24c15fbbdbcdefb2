// The sizes of a tensor along its axes.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <string>

namespace aft {

/// Sizes, outermost axis first; six at most. They are held in place: a view of a tensor, of which a step of decoding makes some
/// hundreds, takes no memory from the heap. Throws Error where more than six would be needed. A value like any other: not
/// thread-safe while it is changed.
class Shape {
public:
    static constexpr size_t most = 6;

    Shape() = default;
    Shape(std::initializer_list<int64_t> sizes) : Shape(sizes.begin(), sizes.end()) {}
    explicit Shape(size_t rank, int64_t size = 0) : rank_(checked(rank)) { std::fill_n(sizes_.begin(), rank, size); }
    template <std::input_iterator Iterator>
    Shape(Iterator first, Iterator last) : rank_(checked(size_t(last - first))) { std::copy(first, last, sizes_.begin()); }

    size_t size() const { return rank_; }
    bool empty() const { return rank_ == 0; }
    int64_t &operator[](size_t axis) { return sizes_[axis]; }
    int64_t operator[](size_t axis) const { return sizes_[axis]; }
    int64_t back() const { return sizes_[rank_ - 1]; }
    int64_t *begin() { return sizes_.data(); }
    int64_t *end() { return sizes_.data() + rank_; }
    const int64_t *begin() const { return sizes_.data(); }
    const int64_t *end() const { return sizes_.data() + rank_; }

    /// Before `axis`, which must be size() at most.
    void insert(size_t axis, int64_t size) {
        rank_ = checked(rank_ + 1);
        std::copy_backward(begin() + axis, end() - 1, end());
        sizes_[axis] = size;
    }
    void erase(size_t axis) {
        std::copy(begin() + axis + 1, end(), begin() + axis);
        rank_--;
    }
    void push_back(int64_t size) { insert(rank_, size); }

    friend bool operator==(const Shape &a, const Shape &b) { return std::equal(a.begin(), a.end(), b.begin(), b.end()); }

private:
    static size_t checked(size_t rank);

    std::array<int64_t, most> sizes_{};
    size_t rank_ = 0;
};

/// "[2, 3, 4]", for messages.
std::string to_string(const Shape &shape);

}  // namespace aft
