// The AFT operators, forward and backward, as a model calls them: the whole operator with its tables and references, arena
// warm. bytes counts what an ideal kernel moves: activations read once, results written once; flops the useful ones.
#include "aft/mixer.h"

#include <algorithm>
#include <memory>

#include "tools/bench/data.h"
#include "tools/bench/workload.h"

namespace aft::tool {
namespace {

struct Operator {
    MixerKind kind;
    bool causal, backward;
    int64_t window = 0, taps = 0;  // defaults where the shape has no letter W or S
};

// Inputs, gradients and memory of one operator, alive as long as its workload.
struct Bench {
    std::unique_ptr<Mixer> mixer;
    MixerTensors in, gradient;
    Tensor output, output_gradient;
    MixerSaved saved;
    Arena arena;
    Arena::Mark kept;

    Bench(const Operator &op, const WorkShape &s) {
        const auto letter = [&](const char *name, int64_t fallback) { return s.contains(name) ? s.at(name) : fallback; };
        const int64_t B = s.at("B"), T = s.at("T"), C = s.at("C"), H = letter("H", C), D = letter("D", 0);
        mixer = make_mixer({op.kind, op.causal, letter("W", op.window)});
        in.query = random_data({B, T, C}, 1, 1), in.value = random_data({B, T, C}, 1, 3), output_gradient = random_data({B, T, C}, 1, 4), output = random_data({B, T, C});
        in.key = random_data({B, T, op.kind == MixerKind::conv ? H : C}, 1, 2);
        if (D) in.bias_u = random_data({T, D}, 0.1, 5), in.bias_v = random_data({T, D}, 0.1, 6);
        if (op.kind == MixerKind::conv) in.filter = random_data({H, letter("S", op.taps)}, 1, 5);
        for (auto member : {&MixerTensors::query, &MixerTensors::key, &MixerTensors::value, &MixerTensors::bias_u, &MixerTensors::bias_v, &MixerTensors::filter})
            if ((in.*member).defined()) gradient.*member = random_data((in.*member).shape());
        forward();
        kept = arena.mark();
    }
    void forward() {
        arena.reset();
        mixer->forward(in, output, saved, arena);
    }
    void backward() {
        arena.release(kept);
        mixer->backward(in, output, saved, output_gradient, gradient, arena);
    }
};

// Multiply-adds and the like per element of [B, T, C] in forward; exp, division and sigmoid count once each.
double flops_of(const Operator &op, const WorkShape &s) {
    const auto letter = [&](const char *name, int64_t fallback) { return double(s.contains(name) ? s.at(name) : fallback); };
    const double B = double(s.at("B")), T = double(s.at("T")), C = double(s.at("C")), D = letter("D", 0);
    double pairs = 0, bias = 0;  // keys of a row that meet a weight of their own; w = u v^T
    if (op.kind == MixerKind::full) pairs = op.causal ? (T + 1) / 2 : T, bias = 2 * pairs * T * D;
    if (op.kind == MixerKind::local) pairs = std::min(T, letter("W", op.window)) * (op.causal ? 1 : 2), bias = 2 * pairs * T * D;
    if (op.kind == MixerKind::conv) pairs = std::min(T, letter("S", op.taps));
    const double forward = B * T * C * (4 * pairs + 8) + bias;  // num and den: two multiply-adds a pair
    // Backward: S and P (4 a pair); dw of the parameters (4 a pair), du and dv.
    return op.backward ? B * T * C * (8 * pairs + 20) + 2 * bias : forward;
}

WorkloadMaker maker(const std::string &name, const Operator &op, std::vector<std::string> letters, std::vector<WorkShape> shapes, std::vector<std::string> kernels) {
    return {name, std::move(letters), std::move(shapes), [=](const WorkShape &shape) {
                const auto bench = std::make_shared<Bench>(op, shape);
                const double elements = double(bench->output.elements()), keys = double(bench->in.key.elements());
                Workload w;
                w.kernel = name, w.shape = shape;
                w.flops = flops_of(op, shape);
                // Forward reads Q, K, V and writes Y; backward reads Q, K, V, dY and writes dQ, dK, dV.
                w.written = 4 * (op.backward ? 2 * elements + keys : elements);
                w.bytes = w.written + 4 * (op.backward ? 3 * elements + keys : 2 * elements + keys);
                w.run = [=] { op.backward ? bench->backward() : bench->forward(); };
                return w;
            }, std::move(kernels)};
}

// One token for each of B sequences, behind T/2 to T others. At T the position goes back to the middle, by whole turns of the
// ring of W or S tokens: some tokens then count twice, which takes no other time.
WorkloadMaker decoding(const std::string &name, MixerKind kind, std::vector<std::string> letters, std::vector<WorkShape> shapes, std::vector<std::string> kernels) {
    return {name, std::move(letters), std::move(shapes), [=](const WorkShape &s) {
                struct Held {
                    std::unique_ptr<Mixer> mixer;
                    MixerTensors in;
                    MixerState state;
                    Tensor output;
                    Arena arena;
                };
                const auto letter = [&](const char *which, int64_t fallback) { return s.contains(which) ? s.at(which) : fallback; };
                const int64_t B = s.at("B"), T = s.at("T"), C = s.at("C"), H = letter("H", C), ring = letter("W", letter("S", 1)), middle = T / 2 / ring * ring;
                const auto held = std::make_shared<Held>();
                MixerTensors &in = held->in, before;
                held->mixer = make_mixer({kind, true, letter("W", 0)});
                if (s.contains("D")) in.bias_u = random_data({T, s.at("D")}, 0.1, 5), in.bias_v = random_data({T, s.at("D")}, 0.1, 6);
                if (s.contains("S")) in.filter = random_data({H, s.at("S")}, 1, 5);
                held->state = held->mixer->start(in, B, C, T);
                before = in;
                before.key = random_data({B, T, H}, 1, 2), before.value = before.query = random_data({B, T, C}, 1, 3);
                held->mixer->prefill(before, held->state, held->arena);
                in.query = random_data({B, 1, C}, 1, 1), in.key = random_data({B, 1, H}, 1, 2), in.value = random_data({B, 1, C}, 1, 3), held->output = random_data({B, 1, C});
                Workload w;
                w.kernel = name, w.shape = s;
                const double elements = double(B * C), keys = double(B * H), pairs = kind == MixerKind::full ? 0.75 * double(T) : double(std::min(T, ring));
                w.flops = elements * (4 * pairs + 8);
                w.written = 4 * (2 * elements + keys), w.bytes = w.written + 4 * (pairs + 1) * (elements + keys);
                w.run = [=] {
                    if (held->state.position == T) held->state.position = middle;
                    held->mixer->step(held->in, held->state, held->output, held->arena);
                };
                return w;
            }, std::move(kernels)};
}

const RegisterWorkloads registered([] {
    using Shapes = std::vector<WorkShape>;
    std::vector<WorkloadMaker> all;
    const std::vector<std::string> plain = {"B", "T", "C"}, biased = {"B", "T", "C", "D"}, windowed = {"B", "T", "C", "D", "W"}, filtered = {"B", "T", "C", "H", "S"};
    const Shapes simple = {{{"B", 4}, {"T", 2048}, {"C", 512}}, {{"B", 2}, {"T", 1024}, {"C", 256}}};
    const Shapes full = {{{"B", 4}, {"T", 1024}, {"C", 512}, {"D", 256}}, {{"B", 2}, {"T", 1024}, {"C", 256}, {"D", 256}}};
    Shapes local, conv;
    for (int64_t W : {32, 128}) local.push_back({{"B", 4}, {"T", 1024}, {"C", 512}, {"D", 256}, {"W", W}});
    local.push_back({{"B", 2}, {"T", 1024}, {"C", 256}, {"D", 256}, {"W", 32}});
    for (int64_t H : {16, 512}) conv.push_back({{"B", 4}, {"T", 1024}, {"C", 512}, {"H", H}, {"S", 32}});
    conv.push_back({{"B", 32}, {"T", 256}, {"C", 128}, {"H", 16}, {"S", 32}});
    for (const bool causal : {true, false}) {
        const std::string form = causal ? "causal" : "bidirectional", window = causal ? "causal" : "both", back = causal ? "reversed" : "both";
        const auto add = [&](MixerKind kind, const char *name, const std::vector<std::string> &letters, const Shapes &shapes, std::vector<std::string> forward,
                             std::vector<std::string> backward) {
            all.push_back(maker(std::string(name) + "_" + form + "_forward", {kind, causal, false}, letters, shapes, std::move(forward)));
            all.push_back(maker(std::string(name) + "_" + form + "_backward", {kind, causal, true}, letters, shapes, std::move(backward)));
        };
        if (causal)
            add(MixerKind::simple, "aft_simple", plain, simple,
                {"aft_simple_causal_forward_bounded_f32", "aft_simple_causal_forward_f32", "aft_simple_causal_prefixes_f32", "aft_simple_causal_link_f32", "aft_simple_causal_gate_f32"},
                {"aft_simple_causal_queries_f32", "aft_simple_causal_keys_f32", "aft_simple_causal_replay_f32", "aft_simple_causal_backward_f32", "aft_simple_causal_link_back_f32"});
        else
            add(MixerKind::simple, "aft_simple", plain, simple, {"aft_simple_statistics_bounded_f32", "aft_simple_statistics_f32", "aft_simple_gate_bounded_f32", "aft_simple_gate_f32"}, {"aft_simple_gate_backward_f32", "aft_simple_key_backward_f32"});
        std::vector<std::string> full_forward, full_backward;
        if (causal)
            full_forward = {"aft_full_range_f32", "aft_full_reference_f32", "aft_full_weights_f32", "aft_full_tiles_f32", "aft_full_forward_f32"},
            full_backward = {"aft_full_queries_f32", "aft_full_backward_f32", "aft_full_column_tiles_f32", "aft_full_pairs_f32", "aft_full_bias_f32"};
        add(MixerKind::full, "aft_full", biased, full, full_forward, full_backward);
        std::vector<std::string> local_forward = {"aft_window_" + window + "_forward_f32"}, local_backward = {"aft_window_" + back + "_backward_f32"};
        std::vector<std::string> conv_forward = {"aft_conv_" + window + "_forward_f32", "aft_conv_" + window + "_sums_f32"}, conv_backward = {"aft_conv_" + back + "_backward_f32"};
        if (causal) {  // what both directions share is timed in one
            local_forward.insert(local_forward.end(), {"aft_window_range_f32", "aft_window_keys_f32", "aft_window_table_f32"});
            local_backward.insert(local_backward.end(), {"aft_window_queries_f32", "aft_window_query_pack_f32", "aft_window_dots_f32", "aft_window_transpose_f32", "aft_window_bias_gradient_f32", "aft_window_apply_f32"});
            conv_forward.push_back("aft_conv_values_f32"), conv_forward.push_back("aft_conv_carry_f32");
            conv_backward.insert(conv_backward.end(), {"aft_conv_reversed_sums_f32", "aft_conv_queries_f32", "aft_conv_heads_f32", "aft_conv_key_gradient_f32", "aft_conv_filter_f32"});
        } else {
            local_forward.push_back("aft_window_total_f32");
        }
        add(MixerKind::local, "aft_local", windowed, local, local_forward, local_backward);
        add(MixerKind::conv, "aft_conv", filtered, conv, conv_forward, conv_backward);
    }
    Shapes full_steps, local_steps, conv_steps;
    for (int64_t B : {1, 64}) {
        full_steps.push_back({{"B", B}, {"T", 1024}, {"C", 256}, {"D", 256}});
        local_steps.push_back({{"B", B}, {"T", 1024}, {"C", 256}, {"D", 256}, {"W", 32}});
        conv_steps.push_back({{"B", B}, {"T", 1024}, {"C", 256}, {"H", 16}, {"S", 32}});
    }
    all.push_back(decoding("decode_full", MixerKind::full, biased, full_steps, {"aft_full_step_f32", "aft_full_products_f64"}));
    all.push_back(decoding("decode_local", MixerKind::local, windowed, local_steps, {"local_step_mix_f32"}));
    all.push_back(decoding("decode_conv", MixerKind::conv, filtered, conv_steps, {"aft_conv_step_f32"}));
    return all;
});

}  // namespace
}  // namespace aft::tool
