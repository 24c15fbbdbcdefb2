// Uses only what is installed: a model, its logits, a continuation, an error.
#include <aft/error.h>
#include <aft/generate.h>
#include <aft/version.h>

#include <cstdio>

int main() {
    aft::ModelConfig config;
    config.context = 16, config.channels = 16, config.layers = 1, config.bias_rank = 4, config.window = 4;
    aft::LanguageModel model(config);
    model.initialise(1);
    int64_t bytes = 0;
    aft::generate(model, "abc", 20, {.temperature = 0}, [&](uint8_t) { return ++bytes > 0; });
    try {
        config.window = -1;
        aft::LanguageModel impossible(config);
    } catch (const aft::Error &error) {
        std::printf("aft %s wrote %lld bytes and refused: %s\n", AFT_VERSION, static_cast<long long>(bytes), error.what());
        return bytes == 20 ? 0 : 1;
    }
    return 1;
}
