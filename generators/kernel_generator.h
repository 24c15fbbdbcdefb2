// What every generator of this project shares: the parameters that the build passes (generators/kernels.cmake).
#pragma once
#include <Halide.h>

#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "generators/fetch_ahead.h"
#include "generators/request.h"

namespace aft {

template <class Derived>
class KernelGenerator : public Halide::Generator<Derived> {
public:
    template <class T> using Param = Halide::GeneratorParam<T>;
    Param<std::string> variant{"variant", ""}, records{"records", ""}, knobs{"knobs", ""}, report{"report", ""}, check{"check", ""};
    Param<std::string> estimates{"estimates", ""};  // for an autoscheduler: "x:512x4096,weight:512,epsilon:1e-05", dimension 0 first

    // Called by Halide after generate().
    void schedule() {
        this->get_pipeline().add_custom_lowering_pass(fetch_ahead_.get(), [kept = fetch_ahead_] {});
        const auto given = estimates_given();
        if (given.empty()) return;
        for (const auto &argument : this->arginfos()) {
            const auto found = given.find(argument.name);
            if (found == given.end()) continue;
            const std::vector<double> &values = found->second;
            if (argument.dir == Halide::Internal::ArgInfoDirection::Output) {
                for (Halide::Func &f : this->output_func(argument.name))
                    for (size_t d = 0; d < f.args().size() && d < values.size(); d++) f.set_estimate(f.args()[d], 0, int(values[d]));
                continue;
            }
            for (auto &input : this->input_parameter(argument.name)) {
                if (!input.is_buffer()) input.set_estimate(Halide::cast(input.type(), Halide::Expr(values.at(0))));
                for (int d = 0; input.is_buffer() && d < std::min(input.dimensions(), int(values.size())); d++)
                    input.set_min_constraint_estimate(d, 0), input.set_extent_constraint_estimate(d, int(values[size_t(d)]));
            }
        }
    }

protected:
    Request request(const std::string &part = "") {
        return {this->target, part, variant.value(), knobs.value(), records.value(), report.value(), check.value(), this->using_autoscheduler(), fetch_ahead_.get()};
    }

    // Every buffer starts at 0 in every dimension; an inner stride other than 1 stays refused (Halide's default).
    template <class... Buffers>
    static void start_at_zero(Buffers &...buffers) {
        const auto one = [](auto &buffer) {
            for (int d = 0; d < buffer.dimensions(); d++) buffer.dim(d).set_min(0);
        };
        (one(buffers), ...);
    }

    // In place: Halide 21 takes a read of a kernel's own output for vector-aligned when it knows the index to be a multiple of
    // the vector, whatever the buffer's pointer is (it asks the host alignment of inputs only). A view of a parameter may start
    // anywhere. So an output that an update reads gets a second axis `one` of unknown stride, which leaves nothing to
    // know; Kernel::operator() adds leading axes of extent 1 where a kernel wants them.

    // Fixes the extents of a buffer, dimension 0 first.
    template <class Buffer>
    static void shaped(Buffer &buffer, std::initializer_list<Halide::Expr> extents) {
        int d = 0;
        for (const Halide::Expr &extent : extents) {
            buffer.dim(d).set_min(0);
            buffer.dim(d++).set_extent(extent);
        }
    }

private:
    std::map<std::string, std::vector<double>> estimates_given() const {
        std::map<std::string, std::vector<double>> all;
        std::istringstream in(estimates.value());
        for (std::string part; std::getline(in, part, ',');) {
            std::istringstream values(part.substr(part.find(':') + 1));
            for (std::string value; std::getline(values, value, 'x');) all[part.substr(0, part.find(':'))].push_back(std::stod(value));
        }
        return all;
    }

    std::shared_ptr<FetchAhead> fetch_ahead_ = std::make_shared<FetchAhead>();  // what the schedule asks for
};

}  // namespace aft
