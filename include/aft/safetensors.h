// Tensors by name in one file, in the safetensors format that other programs read and write: 8 bytes little-endian
// header length, a JSON header {name: {dtype, shape, data_offsets}, __metadata__: {...}}, then the data.
#pragma once
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "aft/tensor.h"

namespace aft {

using TensorMap = std::map<std::string, Tensor>;
using Metadata = std::map<std::string, std::string>;

/// Every byte of the file is taken for hostile: whatever is wrong (lengths, offsets, overlaps, gaps, overflow, types, JSON)
/// is an Error that names the file and the tensor, and memory is asked for only after the header fits the file's size.
/// Types F32, F64, I32, I64 and U8; another is refused by name.
TensorMap read_safetensors(const std::string &path);
TensorMap read_safetensors(const std::string &path, Metadata &metadata);

/// Reads into memory that is there: `destinations` are dense and have the names, types and shapes of the file. Throws an Error
/// that names the first tensor for which that does not hold; then nothing was written.
void read_safetensors_into(const std::string &path, const TensorMap &destinations);

struct TensorInfo {
    std::string name;
    DType dtype;
    Shape shape;
};
/// Names, types and shapes in the order of the data; the same checks, and no tensor is read.
std::vector<TensorInfo> read_safetensors_header(const std::string &path, Metadata &metadata);

/// The file appears under its name when it is complete and on disk, or not at all. Tensors may be views. The widest types
/// come first, then names in alphabetical order, so that every tensor is aligned to its type.
void write_safetensors(const std::string &path, const TensorMap &tensors, const Metadata &metadata = {});
/// The same in the given order.
void write_safetensors_ordered(const std::string &path, const std::vector<std::pair<std::string, Tensor>> &tensors, const Metadata &metadata = {});

}  // namespace aft
