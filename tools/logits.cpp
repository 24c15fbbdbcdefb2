// `aft logits`: a model's logits of given tokens, for comparison with other programs.
#include <nlohmann/json.hpp>

#include <cstdio>

#include "aft/checkpoint.h"
#include "aft/error.h"
#include "aft/safetensors.h"
#include "tools/command.h"

namespace aft::tool {
namespace {

struct Options {
    std::string model, input, output;
};

// tokens [B, T] of I64, I32 or U8 as i32, each inside the vocabulary.
Tensor tokens_of(const TensorMap &file, const std::string &path, int64_t vocabulary) {
    for (const auto &[name, tensor] : file)
        if (name != "tokens") throw Error(path + ": the tensor '" + name + "' is not used; give 'tokens' [B, T] alone");
    const auto found = file.find("tokens");
    if (found == file.end()) throw Error(path + ": the tensor 'tokens' [B, T] is missing");
    const Tensor &given = found->second;
    if (given.rank() != 2 || given.elements() == 0) throw Error(path + ": 'tokens' must be a non-empty [B, T], not " + to_string(given.shape()));
    if (given.dtype() != DType::i64 && given.dtype() != DType::i32 && given.dtype() != DType::u8)
        throw Error(path + ": 'tokens' is " + name_of(given.dtype()) + "; it must be I64, I32 or U8");
    Tensor tokens(given.shape(), DType::i32);
    for (int64_t n = 0; n < given.elements(); n++) {
        const int64_t token = given.dtype() == DType::i64 ? given.data<int64_t>()[n] : given.dtype() == DType::i32 ? given.data<int32_t>()[n] : given.data<uint8_t>()[n];
        if (token < 0 || token >= vocabulary)
            throw Error(path + ": 'tokens' holds " + std::to_string(token) + "; the model's vocabulary is " + std::to_string(vocabulary));
        tokens.data<int32_t>()[n] = int32_t(token);
    }
    return tokens;
}

int run(const Options &o, const Common &common) {
    LanguageModel model = load_language_model(o.model);
    const Tensor tokens = tokens_of(read_safetensors(o.input), o.input, model.config().vocabulary);
    const Tensor logits = model.logits(tokens);
    write_safetensors(o.output, {{"logits", logits}});
    if (common.json)
        std::puts(nlohmann::json{{"output", o.output}, {"shape", logits.shape()}}.dump(1).c_str());
    else if (!common.quiet)
        std::fprintf(stderr, "aft: logits %s written to %s\n", to_string(logits.shape()).c_str(), o.output.c_str());
    return exit_done;
}

const Command command{"logits", "Logits of given tokens", Group::model, [](CLI::App &app, const Common &common) {
    auto o = std::make_shared<Options>();
    app.add_option("--model", o->model, "A run's folder (its best checkpoint, else its latest) or a checkpoint's")->required();
    app.add_option("--input", o->input, "safetensors with 'tokens' [B, T], I64, I32 or U8")->required();
    app.add_option("--output", o->output, "safetensors to write: 'logits' [B, T, V], F32")->required();
    app.footer("Example: aft logits --model runs/first --input tokens.safetensors --output logits.safetensors");
    return [o, &common] { return run(*o, common); };
}};

}  // namespace
}  // namespace aft::tool
