// Flat buffers of values and gradients with named views.
//
// Decayed parameters come first, the others behind them, each in file order. So the optimizer makes two calls, and the
// query, key and value weights of a layer (neighbours in file order) are one matrix in memory.
#include "aft/error.h"
#include "aft/language_model.h"

namespace aft {

ParameterSet::ParameterSet(const std::vector<ParameterShape> &shapes) {
    int64_t offset = 0;
    for (bool wanted : {true, false}) {
        for (const ParameterShape &shape : shapes) {
            if (shape.decayed != wanted) continue;
            views_[shape.name] = {offset, shape.shape};
            int64_t elements = 1;
            for (int64_t size : shape.shape) elements *= size;
            offset += elements;
        }
        if (wanted) decayed = offset;
    }
    for (const ParameterShape &shape : shapes) names_.push_back(shape.name);
    values = Tensor({offset});
    gradients = Tensor::zeros({offset});  // a model that never trains has none in memory
}

Tensor ParameterSet::value(const std::string &name) const { return view(values, name, nullptr); }
Tensor ParameterSet::gradient(const std::string &name) const { return view(gradients, name, nullptr); }
Tensor ParameterSet::value(const std::string &first, const Shape &fused) const { return view(values, first, &fused); }
Tensor ParameterSet::gradient(const std::string &first, const Shape &fused) const { return view(gradients, first, &fused); }

Tensor ParameterSet::view(const Tensor &buffer, const std::string &name, const Shape *fused) const {
    const auto found = views_.find(name);
    if (found == views_.end()) throw Error("the model has no parameter '" + name + "'");
    const Shape &shape = fused ? *fused : found->second.shape;
    int64_t elements = 1;
    for (int64_t size : shape) elements *= size;
    return buffer.slice(0, found->second.offset, found->second.offset + elements).reshape(shape);
}

}  // namespace aft
