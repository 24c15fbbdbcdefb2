// AFT-simple (SPEC F3, F5): checks, decoding, and the choice of a pass. Formulas: generators/aft_simple.h; passes: simple_causal.cpp,
// simple_bidirectional.cpp.
#include "aft/error.h"
#include "kernel_table.h"
#include "models/mixers/mixers.h"
#include "models/mixers/simple_scan.h"

namespace aft {
namespace {

void check_shape(const char *name, const Tensor &x, const Shape &shape) {
    if (!x.defined() || x.dtype() != DType::f32 || x.shape() != shape)
        throw Error(std::string("AFT-simple: the tensor '") + name + "' must be F32 " + to_string(shape) + (x.defined() ? ", not " + to_string(x.shape()) : ", but it is missing"));
}

class SimpleMixer : public Mixer {
public:
    explicit SimpleMixer(const MixerOptions &options) : Mixer(options) {}

    void forward(const MixerTensors &in, Tensor &output, MixerSaved &saved, Arena &arena) const override {
        check(in);
        check_shape("output", output, in.query.shape());
        if (options_.causal)
            simple::causal_forward(in, output, saved, arena);
        else
            simple::bidirectional_forward(in, output, saved, arena);
    }

    bool reads_output() const override { return false; }

    void backward(const MixerTensors &in, const Tensor &, const MixerSaved &saved, const Tensor &output_gradient, MixerTensors &gradient, Arena &arena) const override {
        check(in);
        check_shape("output_gradient", output_gradient, in.query.shape());
        check_shape("query_gradient", gradient.query, in.query.shape());
        check_shape("key_gradient", gradient.key, in.query.shape());
        check_shape("value_gradient", gradient.value, in.query.shape());
        if (saved.tensors.size() != 1) throw Error("AFT-simple: backward without what forward saved");
        if (options_.causal)
            simple::causal_backward(in, saved, output_gradient, gradient, arena);
        else
            simple::bidirectional_backward(in, saved, output_gradient, gradient, arena);
    }

    // Tensors of the state: one, [3, B, C] = num, den, reference.
    MixerState start(const MixerTensors &, int64_t batch, int64_t channels, int64_t) const override {
        if (!options_.causal) throw Error("decoding needs a causal mixer: a bidirectional one sees the future");
        Tensor state({3, batch, channels});
        state.slice(0, 0, 2).fill(0);
        state.slice(0, 2, 3).fill(simple::no_reference);
        return {{state}, 0};
    }

    void prefill(const MixerTensors &in, MixerState &state, Arena &arena) const override {
        MixerTensors known = in;
        if (!known.query.defined()) known.query = in.value;  // only key and value count here
        check(known);
        check_state(state, in.value);
        simple::scan_keys(in, state.tensors[0], arena);
        state.position += in.key.size(1);
    }

    void step(const MixerTensors &in, MixerState &state_, Tensor &output, Arena &arena) const override {
        check(in);
        check_shape("output", output, in.query.shape());
        check_state(state_, in.value);
        if (in.query.size(1) != 1) throw Error("a decoding step takes one token, not " + std::to_string(in.query.size(1)));
        const ArenaScope scope(arena);
        const int64_t B = in.query.size(0), C = in.query.size(2);
        const Tensor local = arena.allocate({2, B, C});
        Tensor s[5];
        for (int64_t n = 0; n < 5; n++) s[n] = (n < 3 ? state_.tensors[0].select(0, n) : local.select(0, n - 3)).repeat(1, 1);
        kernels().aft_simple_causal_forward_f32(in.query, in.key, in.value, output, s[0], s[1], s[3], s[4], s[2]);
        state_.position++;
    }

private:
    void check(const MixerTensors &in) const { check_mixer_tensors(options_, in); }

    static void check_state(const MixerState &state, const Tensor &value) {
        if (state.tensors.size() != 1 || state.tensors[0].shape() != Shape{3, value.size(0), value.size(2)})
            throw Error("AFT-simple: the decoding state does not fit tokens of shape " + to_string(value.shape()));
    }
};

}  // namespace

std::unique_ptr<Mixer> make_simple_mixer(const MixerOptions &options) { return std::make_unique<SimpleMixer>(options); }

}  // namespace aft
