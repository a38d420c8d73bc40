#include "onnx/external.h"

#include <cstdlib>

#include "core/safetensors.h"
#include "support.h"

#ifdef EQ_HAS_LIBONNX
#include <onnx/checker.h>
#include <onnx/onnx_pb.h>
#include <onnx/shape_inference/implementation.h>
#endif
#ifdef EQ_HAS_OPENCV
#include <opencv2/dnn.hpp>
#endif

namespace eq::test {

#ifdef EQ_HAS_LIBONNX
bool can_check_onnx() { return true; }

void check_onnx(const std::string& bytes) {
  onnx::ModelProto model;
  if (!model.ParseFromString(bytes)) throw std::runtime_error("no protocol buffer");
  onnx::checker::check_model(model);
  const onnx::ShapeInferenceOptions options{true, 1, false};  // types too, errors are thrown
  onnx::shape_inference::InferShapes(model, onnx::OpSchemaRegistry::Instance(), options);
}
#else
bool can_check_onnx() { return false; }
void check_onnx(const std::string&) {}
#endif

#ifdef EQ_HAS_OPENCV
Tensor run_in_opencv(const std::string& bytes, const Tensor& input) {
  cv::dnn::Net network = cv::dnn::readNetFromONNX(bytes.data(), bytes.size());
  network.setPreferableBackend(cv::dnn::DNN_BACKEND_OPENCV);
  const std::vector<int> sizes(input.shape().begin(), input.shape().end());
  network.setInput(cv::Mat(sizes, CV_32F, input.raw_data()));
  const cv::Mat output = network.forward().clone();
  std::vector<int64_t> extents(output.size.p, output.size.p + output.dims);
  const float* values = output.ptr<float>();
  return Tensor::from(std::vector<float>(values, values + output.total()), Shape(extents));
}
#else
Tensor run_in_opencv(const std::string&, const Tensor&) { return {}; }
#endif

void keep_for_runtime(const std::string& name, const std::string& bytes, const Tensor& input, const Tensor& output) {
  const char* folder = std::getenv("EQ_ONNX_FOLDER");
  if (folder == nullptr) return;
  const std::filesystem::path base = std::filesystem::path(folder) / name;
  write_file(base.string() + ".onnx", bytes);
  write_safetensors(base.string() + ".safetensors", {{"input", input}, {"output", output}});
}

}  // namespace eq::test
