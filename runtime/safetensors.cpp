#include "aft/safetensors.h"

#include <algorithm>
#include <array>

#include "aft/error.h"
#include "runtime/files.h"
#include "runtime/json.h"

namespace aft {
namespace {

constexpr uint64_t most_header_bytes = 100'000'000;  // the limit of the reference implementation
constexpr DType all_types[] = {DType::f32, DType::f64, DType::i32, DType::i64, DType::u8};

struct Entry {
    std::string name;
    DType dtype{};
    Shape shape;
    uint64_t begin = 0, end = 0;  // in the data
};

struct Header {
    std::vector<Entry> entries;  // sorted by begin; they cover the data without gap or overlap
    Metadata metadata;
    uint64_t data_begin = 0;  // in the file
};

DType to_dtype(const std::string &name, const std::string &where) {
    for (const DType dtype : all_types)
        if (name == name_of(dtype)) return dtype;
    throw Error(where + " has the type '" + printable(name) + "'; F32, F64, I32, I64 and U8 are read");
}

uint64_t to_size(const Json &value, const std::string &name) {
    const int64_t number = to_int64(value, name);
    if (number < 0) throw Error(name + " is " + std::to_string(number) + "; it must not be negative");
    return uint64_t(number);
}

const Json &list(const Json &value, const std::string &name) {
    if (!value.is_array()) throw Error(name + " is " + type_name(value) + "; it must be a list");
    return value;
}

Entry read_entry(const std::string &name, const Json &value, const std::string &path, uint64_t data_bytes) {
    const std::string where = path + ": tensor '" + printable(name) + "'";
    JsonObject object(value, where);
    Entry entry;
    entry.name = name;
    entry.dtype = to_dtype(to_text(object.get("dtype"), where + " dtype"), where);
    uint64_t bytes = size_of(entry.dtype);
    bool empty = false;
    const Json &sizes = list(object.get("shape"), where + " shape");
    if (sizes.size() > Shape::most) throw Error(where + " has " + std::to_string(sizes.size()) + " axes; a tensor has " + std::to_string(Shape::most) + " at most");
    for (const Json &item : sizes) {
        const uint64_t size = to_size(item, where + " shape");
        if (size > 0 && bytes > (uint64_t(1) << 62) / size) throw Error(where + " has an impossible shape (more than 2^62 bytes)");
        bytes *= std::max<uint64_t>(size, 1);
        empty = empty || size == 0;
        entry.shape.push_back(int64_t(size));
    }
    if (empty) bytes = 0;
    const Json &offsets = list(object.get("data_offsets"), where + " data_offsets");
    if (offsets.size() != 2) throw Error(where + " data_offsets has " + std::to_string(offsets.size()) + " numbers; it must have two");
    entry.begin = to_size(offsets[0], where + " data_offsets");
    entry.end = to_size(offsets[1], where + " data_offsets");
    object.finish();
    const std::string span = "[" + std::to_string(entry.begin) + ", " + std::to_string(entry.end) + "]";
    if (entry.begin > entry.end) throw Error(where + " data_offsets " + span + " run backwards");
    if (entry.end > data_bytes)
        throw Error(where + " data_offsets " + span + " lie outside the " + std::to_string(data_bytes) + " bytes of data: the file is truncated or damaged");
    if (entry.end - entry.begin != bytes)
        throw Error(where + " has " + std::to_string(entry.end - entry.begin) + " bytes of data; its shape " + to_string(entry.shape) + " of " +
                    name_of(entry.dtype) + " needs " + std::to_string(bytes));
    return entry;
}

Header read_header(const InputFile &file) {
    const std::string &path = file.path();
    std::array<unsigned char, 8> prefix{};
    if (file.size() < prefix.size()) throw Error(path + ": no safetensors file: it has " + std::to_string(file.size()) + " bytes; the header length alone takes 8");
    file.read(0, prefix.data(), prefix.size());
    uint64_t length = 0;
    for (size_t n = 0; n < prefix.size(); n++) length |= uint64_t(prefix[n]) << (8 * n);
    if (length > most_header_bytes)
        throw Error(path + ": the header length is " + std::to_string(length) + " bytes; at most " + std::to_string(most_header_bytes) + " are allowed (no safetensors file?)");
    if (length > file.size() - prefix.size())
        throw Error(path + ": the header needs " + std::to_string(length) + " bytes, and the file has " + std::to_string(file.size() - prefix.size()) +
                    " after the length: the file is truncated or damaged");
    std::string text(length, '\0');
    file.read(prefix.size(), text.data(), text.size());
    if (text.empty() || text[0] != '{') throw Error(path + ": the header does not start with '{' (no safetensors file?)");

    Header header;
    header.data_begin = prefix.size() + length;
    const uint64_t data_bytes = file.size() - header.data_begin;
    const Json json = parse_json(text, path + ": header", {.depth = 4});
    for (const auto &[name, value] : json.items()) {
        if (name != "__metadata__") {
            header.entries.push_back(read_entry(name, value, path, data_bytes));
            continue;
        }
        const JsonObject object(value, path + ": __metadata__");
        for (const auto &[key, text] : value.items()) header.metadata[key] = to_text(text, object.name(key));
    }
    std::sort(header.entries.begin(), header.entries.end(), [](const Entry &a, const Entry &b) { return std::tie(a.begin, a.end) < std::tie(b.begin, b.end); });
    uint64_t at = 0;
    for (const Entry &entry : header.entries) {
        if (entry.begin != at)
            throw Error(path + ": tensor '" + printable(entry.name) + "' starts at " + std::to_string(entry.begin) + " and the one before ends at " +
                        std::to_string(at) + ": " + (entry.begin < at ? "they overlap" : "there is a gap"));
        at = entry.end;
    }
    if (at != data_bytes)
        throw Error(path + ": the tensors end at byte " + std::to_string(at) + " of the data, and the file has " + std::to_string(data_bytes));
    return header;
}

}  // namespace

std::vector<TensorInfo> read_safetensors_header(const std::string &path, Metadata &metadata) {
    const InputFile file(path);
    Header header = read_header(file);
    metadata = std::move(header.metadata);
    std::vector<TensorInfo> infos;
    for (Entry &entry : header.entries) infos.push_back({std::move(entry.name), entry.dtype, std::move(entry.shape)});
    return infos;
}

TensorMap read_safetensors(const std::string &path, Metadata &metadata) {
    const InputFile file(path);
    Header header = read_header(file);
    metadata = std::move(header.metadata);
    TensorMap tensors;
    for (const Entry &entry : header.entries) {
        Tensor tensor(entry.shape, entry.dtype);
        file.read(header.data_begin + entry.begin, tensor.raw(), entry.end - entry.begin);
        tensors.emplace(entry.name, std::move(tensor));
    }
    return tensors;
}

TensorMap read_safetensors(const std::string &path) {
    Metadata ignored;
    return read_safetensors(path, ignored);
}

void read_safetensors_into(const std::string &path, const TensorMap &destinations) {
    const InputFile file(path);
    const Header header = read_header(file);
    for (const Entry &entry : header.entries) {
        const auto found = destinations.find(entry.name);
        if (found == destinations.end()) throw Error(path + ": the tensor '" + printable(entry.name) + "' is not known");
        const Tensor &to = found->second;
        if (to.dtype() != entry.dtype || to.shape() != entry.shape || !to.contiguous())
            throw Error(path + ": the tensor '" + entry.name + "' is " + name_of(entry.dtype) + " " + to_string(entry.shape) + "; wanted is " + name_of(to.dtype()) + " " +
                        to_string(to.shape()));
    }
    if (header.entries.size() != destinations.size()) throw Error(path + ": " + std::to_string(destinations.size() - header.entries.size()) + " tensors are missing");
    for (const Entry &entry : header.entries) file.read(header.data_begin + entry.begin, destinations.at(entry.name).raw(), entry.end - entry.begin);
}

void write_safetensors_ordered(const std::string &path, const std::vector<std::pair<std::string, Tensor>> &tensors, const Metadata &metadata) {
    nlohmann::ordered_json header = nlohmann::ordered_json::object();
    if (!metadata.empty()) header["__metadata__"] = metadata;
    uint64_t at = 0;
    for (const auto &[name, tensor] : tensors) {
        if (name == "__metadata__" || header.contains(name)) throw Error(path + ": two tensors of the name '" + printable(name) + "' cannot be written");
        if (!tensor.defined()) throw Error(path + ": the tensor '" + printable(name) + "' has no memory");
        header[name] = {{"dtype", name_of(tensor.dtype())}, {"shape", tensor.shape()}, {"data_offsets", {at, at + tensor.bytes()}}};
        at += tensor.bytes();
    }
    std::string text;
    try {
        text = header.dump();
    } catch (const Json::exception &) {
        throw Error(path + ": a tensor name or a metadata text is not valid UTF-8");
    }
    text.append((8 - text.size() % 8) % 8, ' ');  // the data starts at a multiple of 8
    std::array<unsigned char, 8> prefix{};
    for (size_t n = 0; n < prefix.size(); n++) prefix[n] = static_cast<unsigned char>(uint64_t(text.size()) >> (8 * n));

    AtomicFile file(path);
    file.write(prefix.data(), prefix.size());
    file.write(text);
    for (const auto &[name, tensor] : tensors) {
        const Tensor dense = tensor.contiguous() ? tensor : tensor.clone();
        file.write(dense.raw(), dense.bytes());
    }
    file.commit();
}

void write_safetensors(const std::string &path, const TensorMap &tensors, const Metadata &metadata) {
    std::vector<std::pair<std::string, Tensor>> ordered(tensors.begin(), tensors.end());
    std::stable_sort(ordered.begin(), ordered.end(), [](const auto &a, const auto &b) { return size_of(a.second.dtype()) > size_of(b.second.dtype()); });
    write_safetensors_ordered(path, ordered, metadata);
}

}  // namespace aft
