#include "onnx/graph.h"

#include <limits>

#include "core/errors.h"

namespace eq {
namespace {

// Field numbers of onnx.proto.
namespace field {
namespace model { enum { ir_version = 1, producer_name = 2, producer_version = 3, graph = 7, opset_import = 8, metadata_props = 14 }; }
namespace graph { enum { node = 1, name = 2, initializer = 5, input = 11, output = 12 }; }
namespace node { enum { input = 1, output = 2, name = 3, op_type = 4, attribute = 5 }; }
namespace attribute { enum { name = 1, f = 2, i = 3, s = 4, ints = 8, type = 20 }; }
namespace tensor { enum { dims = 1, data_type = 2, name = 8, raw_data = 9 }; }
namespace value_info { enum { name = 1, type = 2 }; }
namespace type { enum { tensor_type = 1 }; }
namespace tensor_type { enum { elem_type = 1, shape = 2 }; }
namespace shape { enum { dim = 1 }; }
namespace dim { enum { value = 1, param = 2 }; }
namespace entry { enum { key = 1, value = 2 }; }
namespace opset { enum { version = 2 }; }
}  // namespace field

enum AttributeType { kFloat = 1, kInt = 2, kString = 3, kInts = 7 };

constexpr uint64_t kMostBytes = uint64_t(std::numeric_limits<int32_t>::max());

ProtobufMessage attribute_message(const std::string& name, const OnnxGraph::Attribute& value) {
  namespace attribute = field::attribute;
  ProtobufMessage message;
  message.bytes(attribute::name, name);
  if (const auto* i = std::get_if<int64_t>(&value)) {
    message.varint(attribute::i, uint64_t(*i));
    message.varint(attribute::type, kInt);
  } else if (const auto* f = std::get_if<float>(&value)) {
    message.fixed32(attribute::f, *f);
    message.varint(attribute::type, kFloat);
  } else if (const auto* s = std::get_if<std::string>(&value)) {
    message.bytes(attribute::s, *s);
    message.varint(attribute::type, kString);
  } else {
    message.packed(attribute::ints, std::get<std::vector<int64_t>>(value));
    message.varint(attribute::type, kInts);
  }
  return message;
}

ProtobufMessage value_info(const std::string& name, DType dtype, const std::vector<int64_t>& extents) {
  ProtobufMessage shape, tensor, type, info;
  for (const int64_t extent : extents) {
    ProtobufMessage dim;
    if (extent == OnnxGraph::kAnyBatch) {
      dim.bytes(field::dim::param, "batch");
    } else {
      dim.varint(field::dim::value, uint64_t(extent));
    }
    shape.message(field::shape::dim, dim);
  }
  tensor.varint(field::tensor_type::elem_type, uint64_t(OnnxGraph::element_type(dtype)));
  tensor.message(field::tensor_type::shape, shape);
  type.message(field::type::tensor_type, tensor);
  info.bytes(field::value_info::name, name);
  info.message(field::value_info::type, type);
  return info;
}

}  // namespace

int OnnxGraph::element_type(DType type) {
  switch (type) {
    case DType::kFloat32: return 1;
    case DType::kUInt8: return 2;
    case DType::kInt32: return 6;
    case DType::kInt64: return 7;
    case DType::kFloat64: return 11;
    default: break;
  }
  throw DTypeError(std::string(name_of(type)) + " values are not written to ONNX files", "OnnxGraph", "convert them to float32");
}

std::string OnnxGraph::unused(const std::string& name) {
  const int times = used_[name]++;
  return times == 0 ? name : unused(name + "_" + std::to_string(times));
}

std::string OnnxGraph::input(const std::string& name, DType type, const std::vector<int64_t>& extents) {
  graph_.message(field::graph::input, value_info(name, type, extents));
  return unused(name);
}

void OnnxGraph::output(const std::string& name, DType type, const std::vector<int64_t>& extents) {
  graph_.message(field::graph::output, value_info(name, type, extents));
}

std::string OnnxGraph::add(const std::string& type, const std::vector<std::string>& inputs, const Attributes& attributes,
                           const std::string& name) {
  const std::string result = unused(name.empty() ? type : name);
  ProtobufMessage node;
  for (const std::string& input : inputs) node.bytes(field::node::input, input);
  node.bytes(field::node::output, result);
  node.bytes(field::node::name, result);
  node.bytes(field::node::op_type, type);
  for (const auto& [key, value] : attributes) node.message(field::node::attribute, attribute_message(key, value));
  graph_.message(field::graph::node, node);
  ++nodes_;
  return result;
}

std::string OnnxGraph::constant(const Tensor& values, const std::string& name) {
  const Tensor here = values.to(Device::cpu());
  const std::string result = unused(name);
  constant_bytes_ += here.bytes();
  if (constant_bytes_ > kMostBytes) return result;  // bytes() complains
  ProtobufMessage tensor;
  tensor.packed(field::tensor::dims, {here.shape().begin(), here.shape().end()});
  tensor.varint(field::tensor::data_type, uint64_t(element_type(here.dtype())));
  tensor.bytes(field::tensor::name, result);
  tensor.bytes(field::tensor::raw_data, {static_cast<const char*>(here.raw_data()), here.bytes()});
  graph_.message(field::graph::initializer, tensor);
  return result;
}

std::string OnnxGraph::constant(const std::vector<int64_t>& values) {
  std::string& name = integers_[values];
  if (name.empty()) name = constant(Tensor::from(values, {int64_t(values.size())}), "integers");
  return name;
}

void OnnxGraph::describe(const std::string& key, const std::string& value) {
  ProtobufMessage entry;
  entry.bytes(field::entry::key, key);
  entry.bytes(field::entry::value, value);
  metadata_.message(field::model::metadata_props, entry);
}

std::string OnnxGraph::bytes() const {
  ProtobufMessage opset, graph = graph_, model;
  opset.varint(field::opset::version, kOperatorSet);
  graph.bytes(field::graph::name, name_);
  model.varint(field::model::ir_version, kFormat);
  model.bytes(field::model::producer_name, "equiscale");
  model.bytes(field::model::producer_version, EQ_VERSION);
  model.message(field::model::opset_import, opset);
  model.message(field::model::graph, graph);
  std::string bytes = model.data() + metadata_.data();
  if (constant_bytes_ > kMostBytes || bytes.size() > kMostBytes) {
    throw UsageError("an ONNX file holds 2 GiB, this network has " + std::to_string(constant_bytes_ >> 20) + " MiB of constants",
                     "OnnxGraph", "use a smaller network, or smaller pictures if it is the masks of windows that take the room");
  }
  return bytes;
}

}  // namespace eq
