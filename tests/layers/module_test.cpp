// Registration, names, state dict: what a module tree promises.
#include <optional>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "layers/layers.h"
#include "support.h"

using namespace eq;
using namespace eq::test;

namespace {

class Pair : public Layer {
 public:
  Pair()
      : first_(register_module<Conv2d>("first", 2, 3, Conv2dLayerOptions{.kernel_size = 3})),
        second_(register_module<BatchNorm2d>("second", 3)) {}
  Tensor forward(const Tensor& x) override { return second_(first_(x)); }
  void replace_first() { register_module<Conv2d>("first", 2, 3, Conv2dLayerOptions{.kernel_size = 1, .bias = false}); }

 private:
  Conv2d& first_;
  BatchNorm2d& second_;
};

std::vector<std::string> names_of(const std::vector<Module::NamedTensor>& list) {
  std::vector<std::string> names;
  for (const auto& entry : list) names.push_back(entry.name);
  return names;
}

}  // namespace

TEST_CASE("gradcheck holds for a convolution and its norm in evaluation, where layers keep what they make of weights", "[module]") {
  const InitRandom random(1, DType::kFloat64);
  ConvModule module(3, 4, 3);
  const Tensor x = random_leaf({2, 5, 4, 3}, 2);
  module.eval();
  module.bn().running_mean().fill_(0.1);
  std::vector<Tensor> inputs = module.parameters();
  inputs.push_back(x);
  check_gradients([&](const std::vector<Tensor>&) { return module(x); }, inputs);
}

TEST_CASE("a linear layer in evaluation keeps what it makes of its weight until that changes", "[module]") {
  const InitRandom random(1);
  Linear layer(20, 30);
  layer.eval();
  const NoGradGuard no_grad;
  const Tensor x = random_tensor({3, 50, 20}, 2, DType::kFloat32);
  const auto check_current = [&] {
    for (int i = 0; i < 2; ++i) CHECK(bit_equal(layer(x), linear(x, layer.weight(), layer.bias())));
  };
  check_current();
  const Tensor before = layer(x);
  Tensor weight = layer.weight();
  weight.mul_(1.5);
  check_current();
  CHECK(!bit_equal(layer(x), before));
  layer.train();
  CHECK(bit_equal(layer(x), linear(x, layer.weight(), layer.bias())));
}

TEST_CASE("a module tree names its tensors in registration order", "[module]") {
  Pair pair;
  CHECK(names_of(pair.named_parameters()) == std::vector<std::string>{"first.weight", "first.bias", "second.weight", "second.bias"});
  CHECK(names_of(pair.named_buffers()) ==
        std::vector<std::string>{"second.running_mean", "second.running_var", "second.num_batches_tracked"});
  CHECK(pair.parameter_count() == 2 * 3 * 9 + 3 + 3 + 3);
}

TEST_CASE("registering a name again replaces the child", "[module]") {
  Pair pair;
  pair.replace_first();
  CHECK(names_of(pair.named_parameters()) == std::vector<std::string>{"first.weight", "second.weight", "second.bias"});
  CHECK(pair.named_parameters()[0].tensor.shape() == Shape{3, 1, 1, 2});
}

TEST_CASE("names that would make two tensors one are refused", "[module]") {
  struct Names : Module {
    void parameter(const std::string& name) { register_parameter(name, Tensor::zeros({1})); }
    void buffer(const std::string& name) { register_buffer(name, Tensor::zeros({1})); }
    void child(const std::string& name) { register_module<Linear>(name, 1, 1); }
  } names;
  names.parameter("scale");
  names.buffer("mean");
  names.child("layers.0");
  CHECK_THROWS_WITH(names.buffer("scale"), Catch::Contains("buffer") && Catch::Contains("\"scale\"") && Catch::Contains("another kind"));
  CHECK_THROWS_WITH(names.child("mean"), Catch::Contains("another kind"));
  CHECK_THROWS_WITH(names.parameter("layers.0"), Catch::Contains("another kind"));
  CHECK_THROWS_WITH(names.parameter("layers.0.weight"), Catch::Contains("\"layers.0\""));
  CHECK_THROWS_WITH(names.child("layers"), Catch::Contains("\"layers.0\""));
  for (const char* name : {"", ".a", "a.", "a..b"}) CHECK_THROWS_WITH(names.child(name), Catch::Contains("empty"));
  names.parameter("scale");
  names.child("layers.1");
  CHECK(names.state_dict().size() == 2 + 2 * 2);
}

TEST_CASE("a sequence refuses a name that is taken, and stays as it was", "[module]") {
  Sequential layers;
  layers.append_as<Linear>("1", 2, 3);
  CHECK_THROWS_WITH(layers.append_as<Linear>("1", 3, 4), Catch::Contains("there is a layer \"1\" already"));
  CHECK_THROWS_WITH(layers.append<Linear>(3, 4), Catch::Contains("append_as"));  // would be "1"
  CHECK(layers.size() == 1);
  layers.append_as<Linear>("last", 3, 4);
  layers.append<Linear>(4, 5);
  CHECK(layers(Tensor::zeros({1, 2})).shape() == Shape{1, 5});
  CHECK(names_of(layers.named_parameters())[4] == "2.weight");
}

TEST_CASE("a convolution's numbers are checked before it is applied", "[module]") {
  const auto make = [](const Conv2dLayerOptions& options) { Conv2d conv(3, 4, options); };
  CHECK_THROWS_WITH(make({.stride = 0, .same = true}), Catch::Contains("stride 0"));
  CHECK_THROWS_WITH(make({.dilation = -1}), Catch::Contains("dilation -1"));
  CHECK_THROWS_WITH(make({.kernel_size = 0}), Catch::Contains("kernel size 0"));
}

TEST_CASE("train and eval reach the whole tree", "[module]") {
  Pair pair;
  pair.eval();
  for (const auto& entry : pair.named_modules()) CHECK_FALSE(entry.module->is_training());
  pair.train();
  for (const auto& entry : pair.named_modules()) CHECK(entry.module->is_training());
}

TEST_CASE("the state dict speaks PyTorch's layout and loads back", "[module]") {
  InitRandom random(7);
  Pair a, b;
  auto state = a.state_dict();
  REQUIRE(state.at("first.weight").shape() == Shape{3, 2, 3, 3});
  // Element [o,i,r,s] of the file is element [o,r,s,i] in memory.
  const Tensor weight = a.named_parameters()[0].tensor;
  CHECK(state.at("first.weight").value_at(((2 * 2 + 1) * 3 + 0) * 3 + 2) == weight.value_at(((2 * 3 + 0) * 3 + 2) * 2 + 1));
  const auto report = b.load_state_dict(state);
  CHECK(report.loaded.size() == 7);
  for (size_t i = 0; i < 4; ++i) CHECK(bit_equal(a.named_parameters()[i].tensor, b.named_parameters()[i].tensor));
}

TEST_CASE("a state dict is a snapshot: training on does not change it", "[module]") {
  Pair pair;
  const auto best = pair.state_dict();
  std::map<std::string, Tensor> kept;
  for (const auto& [name, value] : best) kept[name] = value.clone();
  pair(random_tensor({2, 4, 4, 2}, 1, DType::kFloat32));  // statistics
  {
    const NoGradGuard no_grad;
    for (Tensor parameter : pair.parameters()) parameter.add_(Tensor::full(parameter.shape(), 1));
  }
  for (const auto& [name, value] : best) CHECK(bit_equal(value, kept.at(name)));
  for (const auto& [name, value] : pair.state_dict()) CHECK_FALSE(bit_equal(value, best.at(name)));
  pair.load_state_dict(best);
  for (const auto& [name, value] : pair.state_dict()) CHECK(bit_equal(value, best.at(name)));
}

TEST_CASE("loading is strict and changes nothing when it fails", "[module]") {
  InitRandom random(7);
  Pair pair;
  const auto before = pair.state_dict();
  std::map<std::string, Tensor> kept;
  for (const auto& [name, value] : before) kept[name] = value.clone();
  auto wrong = kept;
  wrong.erase("first.bias");
  wrong["second.weight"] = Tensor::zeros({19});
  wrong["stranger"] = Tensor::zeros({1});
  wrong["first.weight"] = Tensor::zeros({3, 2, 3, 3});
  try {
    pair.load_state_dict(wrong, true, "file.safetensors");
    FAIL("nothing was thrown");
  } catch (const DataError& error) {
    const std::string text = error.what();
    CHECK(text.find("first.bias") != std::string::npos);
    CHECK(text.find("second.weight: file [19], model [3]") != std::string::npos);
    CHECK(text.find("stranger") != std::string::npos);
    CHECK(text.find("file.safetensors") != std::string::npos);
  }
  for (const auto& [name, value] : pair.state_dict()) CHECK(bit_equal(value, kept.at(name)));
  const auto report = pair.load_state_dict(wrong, false);
  CHECK(report.missing == std::vector<std::string>{"first.bias"});
  CHECK(report.unexpected == std::vector<std::string>{"stranger"});
  CHECK(report.mismatched.size() == 1);
  CHECK(pair.named_parameters()[0].tensor.value_at(0) == 0);
}

TEST_CASE("equal seeds give equal weights, whatever was built before", "[module]") {
  auto build = [](uint64_t seed) {
    InitRandom random(seed);
    return Pair().named_parameters()[0].tensor;
  };
  const Tensor a = build(1), other = build(2), b = build(1);
  CHECK(bit_equal(a, b));
  CHECK_FALSE(bit_equal(a, other));
}

TEST_CASE("zeros for weights that are loaded next, and the same draws for what is built after them", "[module]") {
  const auto build = [](bool zeros) {
    const InitRandom random(3);
    std::optional<InitZeros> none;
    if (zeros) none.emplace();
    const Conv2d first(2, 3, {.kernel_size = 3});
    none.reset();
    const Conv2d second(2, 3, {.kernel_size = 3});
    return std::pair(first.weight(), second.weight());
  };
  const auto drawn = build(false), zeroed = build(true);
  CHECK(bit_equal(zeroed.first, Tensor::zeros({3, 3, 3, 2})));
  CHECK_FALSE(bit_equal(drawn.first, zeroed.first));
  CHECK(bit_equal(drawn.second, zeroed.second));
}

TEST_CASE("dropout draws a new mask at each call, another one in each layer, and the same ones again from the same seed", "[module]") {
  const Tensor x = Tensor::full({1, 4, 4, 16}, 1);
  for (const Dropout::Kind kind : {Dropout::Kind::kElement, Dropout::Kind::kChannel}) {
    const auto masks = [&](uint64_t seed) {
      const InitRandom random(seed);
      Dropout first(0.5, kind), second(0.5, kind);
      return std::vector<Tensor>{first(x), second(x), first(x), second(x), Linear(3, 3).weight()};
    };
    const std::vector<Tensor> once = masks(7), again = masks(7), other = masks(8);
    for (size_t i = 0; i < 4; ++i) {
      for (size_t j = i + 1; j < 4; ++j) CHECK_FALSE(bit_equal(once[i], once[j]));
      CHECK(bit_equal(once[i], again[i]));
      CHECK_FALSE(bit_equal(once[i], other[i]));
    }
    const InitRandom random(7);
    CHECK(bit_equal(Linear(3, 3).weight(), once[4]));  // weights do not know of dropout
  }
  Dropout first(0.5), second(0.5);
  CHECK_FALSE(bit_equal(first(x), second(x)));
  first.set_stream(3, 4), second.set_stream(3, 4);
  CHECK(bit_equal(first(x), dropout(x, 0.5, 3, 4)));
  CHECK(bit_equal(first(x), second(x)));
  first.eval();
  CHECK(bit_equal(first(x), x));
}

TEST_CASE("a batch that batch norm refuses is not counted", "[module]") {
  BatchNorm2d norm(2);
  norm(random_tensor({2, 3, 3, 2}, 1, DType::kFloat32));
  CHECK_THROWS(norm(random_tensor({1, 1, 1, 2}, 1, DType::kFloat32)));
  CHECK(norm.named_buffers()[2].tensor.item() == 1);
}

TEST_CASE("He-normal initialisation has the fan-out's deviation", "[module]") {
  InitRandom random(3);
  Conv2d conv(64, 128, {.kernel_size = 3, .bias = false});
  double squares = 0;
  const Tensor weight = conv.weight();
  for (int64_t i = 0; i < weight.numel(); ++i) squares += weight.value_at(i) * weight.value_at(i);
  CHECK(squares / double(weight.numel()) == Approx(2.0 / (9 * 128)).epsilon(0.02));
}

TEST_CASE("a convolution of no channels is refused", "[module]") {
  CHECK_THROWS_WITH(Conv2d(0, 8, {.kernel_size = 3}), Catch::Contains("without elements"));
  CHECK_THROWS_WITH(Conv2d(8, 0, {.kernel_size = 3}), Catch::Contains("without elements"));
}

TEST_CASE("a layer that is given nothing is named", "[module]") {
  Pair pair;
  CHECK_THROWS_WITH(pair(Tensor()), Catch::Contains("no value") && Catch::Contains("Layer"));
  pair.assign_paths("net");
  CHECK_THROWS_WITH(pair(Tensor()), Catch::Contains("net (Layer)"));
  for (const bool training : {true, false}) {
    ConvModule module(2, 3, 3);
    module.train(training);
    CHECK_THROWS_WITH(module.conv()(Tensor()), Catch::Contains("Conv2d 2->3 3x3"));
    CHECK_THROWS_WITH(module.forward(Tensor()), Catch::Contains("conv2d", Catch::CaseSensitive::No));
  }
  CHECK_THROWS_WITH(Linear(2, 3).forward(Tensor()), Catch::Contains("linear"));
}

TEST_CASE("a convolution and a linear layer are named where their input does not fit", "[module]") {
  struct Net : Module {
    Conv2d& conv = register_module<Conv2d>("conv", 3, 4, Conv2dLayerOptions{});
    Linear& linear = register_module<Linear>("linear", 3, 4);
    BatchNorm2d& norm = register_module<BatchNorm2d>("norm", 4);
  } net;
  const Tensor wide = Tensor::zeros({1, 4, 4, 5});
  CHECK_THROWS_WITH(net.conv(wide), Catch::Contains("conv: conv2d"));
  CHECK_THROWS_WITH(net.linear(wide), Catch::Contains("linear: linear"));
  CHECK_THROWS_AS(net.conv(Tensor::zeros({1, 4, 4, 3}, DType::kFloat64)), DTypeError);
  CHECK_THROWS_WITH(net.conv(Tensor::zeros({1, 4, 4, 3}, DType::kFloat64)), Catch::Contains("conv: conv2d"));
  net.eval();
  CHECK_THROWS_WITH(conv_norm(net.conv, net.norm, wide), Catch::Contains("conv: "));
}

TEST_CASE("what is frozen neither learns nor trains, until it is let go", "[module]") {
  Pair pair;
  const auto modules = pair.named_modules();
  Module &first = *modules[1].module, &second = *modules[2].module;
  for (Tensor& parameter : pair.parameters()) parameter.set_grad(Tensor::zeros(parameter.shape()));
  first.freeze();
  for (const Tensor& parameter : first.parameters()) CHECK_FALSE(parameter.grad().defined());  // an optimizer would step by it
  for (const Tensor& parameter : second.parameters()) CHECK(parameter.grad().defined());
  for (const bool on : {true, false}) {
    CHECK(pair.is_training());
    CHECK(second.is_training());
    CHECK(first.is_training() != on);
    for (const Tensor& parameter : first.parameters()) CHECK(parameter.requires_grad() != on);
    for (const Tensor& parameter : second.parameters()) CHECK(parameter.requires_grad());
    first.freeze(false);
    pair.train();
  }
  first.stay_in_eval();
  pair.train();
  CHECK_FALSE(first.is_training());
  CHECK(first.parameters()[0].requires_grad());
}

TEST_CASE("a module knows its path from the root, whatever was registered first", "[module]") {
  struct Inner : Module {
    Inner() { list.append(2, 3, 1); }
    ModuleList<ConvModule>& list = register_module<ModuleList<ConvModule>>("list");
  };
  struct Outer : Module {
    Inner& inner = register_module<Inner>("inner");
  };
  Outer outer;
  outer.inner.list.append(2, 3, 1);  // later
  for (const Module::NamedModule& entry : outer.named_modules()) CHECK(entry.module->path() == entry.name);
  CHECK(outer.inner.list[1].bn().path() == "inner.list.1.bn");
  outer.assign_paths("net");
  CHECK(outer.inner.list[1].bn().path() == "net.inner.list.1.bn");
  CHECK(outer.inner.list.append(2, 3, 1).path() == "net.inner.list.2");
}

TEST_CASE("a child that is not there is refused", "[module]") {
  struct Empty : Module {
    Empty() { add_child("body", nullptr); }
  };
  CHECK_THROWS_WITH(Empty(), Catch::Contains("body"));
}

TEST_CASE("a tensor that is registered has a value, and four axes where it is a filter", "[module]") {
  struct Open : Module {
    using Module::register_buffer;
    using Module::register_parameter;
  } open;
  CHECK_THROWS_WITH(open.register_parameter("weight", {}), Catch::Contains("weight has no value"));
  CHECK_THROWS_WITH(open.register_buffer("mean", {}), Catch::Contains("mean has no value"));
  CHECK_THROWS_WITH(open.register_parameter("filter", Tensor::zeros({2, 2}), FileLayout::kConvWeight),
                    Catch::Contains("filter is float32 [2, 2]"));
  CHECK(open.state_dict().empty());
}

TEST_CASE("observers may end in any order", "[module]") {
  Pair pair;
  std::vector<int> calls(3, 0);
  std::vector<std::unique_ptr<LayerObserver>> observers;
  for (size_t i = 0; i < 3; ++i) {
    observers.push_back(std::make_unique<LayerObserver>([&calls, i](Layer&, const Tensor&, const Tensor&) { ++calls[i]; }));
  }
  const Tensor x = Tensor::zeros({2, 4, 4, 2});
  for (const size_t ends : {0, 2, 1}) {  // the eldest, the youngest, the last
    CHECK(LayerObserver::any());
    pair(x);
    observers[ends].reset();
  }
  CHECK_FALSE(LayerObserver::any());
  pair(x);
  CHECK(calls == std::vector<int>{3, 9, 6});
}

TEST_CASE("observers see each layer in order", "[module]") {
  Pair pair;
  pair.assign_paths("net");
  std::vector<std::string> seen;
  {
    LayerObserver observer(
        [&](Layer& layer, const Tensor&, const Tensor& output) { seen.push_back(layer.path() + " " + to_string(output.shape())); });
    pair(Tensor::zeros({2, 4, 4, 2}));
  }
  pair(Tensor::zeros({2, 4, 4, 2}));
  CHECK(seen == std::vector<std::string>{"net.first [2, 2, 2, 3]", "net.second [2, 2, 2, 3]", "net [2, 2, 2, 3]"});
}

TEST_CASE("strict loading refuses each fault alone", "[module]") {
  Pair pair;
  auto missing = pair.state_dict(), more = missing, mismatched = missing;
  missing.erase("second.bias");
  more["stranger"] = Tensor::zeros({1});
  mismatched["second.bias"] = Tensor::zeros({4});
  for (const auto* state : {&missing, &more, &mismatched}) CHECK_THROWS_AS(pair.load_state_dict(*state), DataError);
  mismatched["second.bias"] = Tensor();
  CHECK_THROWS_WITH(pair.load_state_dict(mismatched), Catch::Contains("second.bias: no value"));
}

TEST_CASE("a parameter or a buffer that is registered again replaces the one before", "[module]") {
  struct Twice : Module {
    Twice() {
      for (const int64_t size : {2, 3}) {
        register_parameter("scale", Tensor::zeros({size}));
        register_buffer("mean", Tensor::zeros({size}));
      }
    }
  } twice;
  REQUIRE(twice.named_parameters().size() == 1);
  CHECK(twice.named_parameters()[0].tensor.shape() == Shape{3});
  REQUIRE(twice.named_buffers().size() == 1);
  CHECK(twice.named_buffers()[0].tensor.shape() == Shape{3});
}

TEST_CASE("modules come depth first, views of one memory are tensors of their own, a tied tensor has its first name", "[module]") {
  struct Views : Module {
    Tensor all = Tensor::zeros({6});
    Pair& inner = register_module<Pair>("inner");
    Linear& last = register_module<Linear>("last", 1, 1);
    Views() {
      for (const int64_t at : {0, 2}) register_buffer(at == 0 ? "head" : "tail", all.alias({2}, at));
      register_parameter("tied", register_parameter("own", Tensor::zeros({1})));
    }
  } views;
  std::vector<std::string> modules;
  for (const auto& entry : views.named_modules()) modules.push_back(entry.name);
  CHECK(modules == std::vector<std::string>{"", "inner", "inner.first", "inner.second", "last"});
  CHECK(names_of(views.named_buffers())[1] == "tail");
  CHECK(names_of(views.named_parameters())[1] == "inner.first.weight");  // "tied" is "own"
  CHECK(views.memory_names().at(views.named_parameters()[0].tensor.memory_id()) == "own");
  auto flat = views.state_dict();
  flat["inner.first.weight"] = Tensor::zeros({54});  // of a convolution, but no filter
  CHECK(views.load_state_dict(flat, false).mismatched.size() == 1);
}
