// A stand-in for Paddle-Lite. A model file is one word that selects its behaviour; the output is twice the input.
#include "paddle_api.h"
#include <unistd.h>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <new>
#include <stdexcept>
namespace paddle { namespace lite_api {
struct Raw { shape_t shape; std::vector<float> data; PrecisionType precision = PrecisionType::kFloat; };
Raw* raw(void* pointer) { return static_cast<Raw*>(pointer); }
void Tensor::Resize(const shape_t& shape) {
  if (shape[0] == 13) throw std::runtime_error("13 is too many");
  raw(raw_)->shape = shape;
}
shape_t Tensor::shape() const { return raw(raw_)->shape; }
PrecisionType Tensor::precision() const { return raw(raw_)->precision; }
template <> const float* Tensor::data<float>() const { return raw(raw_)->data.data(); }
template <> float* Tensor::mutable_data<float>(int) const {
  size_t count = 1;
  for (int64_t dim : raw(raw_)->shape) count *= dim;
  raw(raw_)->data.resize(count);
  return raw(raw_)->data.data();
}
void ConfigBase::set_threads(int threads) { threads_ = threads; }
void ConfigBase::set_power_mode(PowerMode) {}
void MobileConfig::set_model_from_file(const std::string& path) { path_ = path; }

#ifdef __aarch64__
// Five instructions a round.
__attribute__((noinline)) void work(long rounds) {
  long ignored;
  asm volatile("1: ldr %1, [sp]\n str %1, [sp, #-16]\n nop\n subs %0, %0, #1\n b.ne 1b"
    : "+r"(rounds), "=&r"(ignored) :: "cc", "memory");
}
#else
void work(long) {}
#endif

class Predictor : public PaddlePredictor {
 public:
  explicit Predictor(const MobileConfig& config) : threads_(config.threads_) {
    std::ifstream(config.path_) >> word_;
    std::fprintf(stderr, "[I 11/22  9:19: 6.755 /a/b/device_info.cc Setup:1308] processor\n");
    if (word_ == "sleep-load") sleep(60);
    if (word_ == "abort-load") Abort("[F 11/22  9:19: 6.755 /a/b/model_parser.cc Load:7] Check failed: no model");
    if (word_ == "throw-load") throw std::runtime_error("Paddle-Lite C++ Exception: \n[F 11/22 12:30:26.284 "
      "/a/core/program.cc RuntimeProgram:316] Check failed: op:\nError: no operator 'comv2d'\n\n");
  }
  std::unique_ptr<Tensor> GetInput(int) override { return std::unique_ptr<Tensor>(new Tensor(&in_)); }
  std::unique_ptr<const Tensor> GetOutput(int) const override {
    return std::unique_ptr<const Tensor>(new Tensor(const_cast<Raw*>(&out_)));
  }
  void Run() override {
    if (word_ == "ops") for (int i = 1; i <= 7; ++i) work(1000 * i);
    if (word_ == "print") for (int i = 0; i < 100; ++i) std::printf("%01000d\n", i);
    if (word_ == "log") for (int i = 0; i < 3000; ++i) std::fprintf(stderr, "line %d %01000d\n", i, 0);
    if (word_ == "log" || word_ == "abort-run") Abort(
      "[F 11/22  9:19: 6.755 ...uddle-Lite/lite/operators/conv_op.cc:35 InferShape] Check failed: 3!=4");
    if (word_ == "throw-run") throw std::runtime_error("no such broadcast");
    if (word_ == "throw-memory") throw std::bad_alloc();
    if (word_ == "throw-int") throw 5;
    if (word_ == "sleep-run") { std::fprintf(stderr, "thinking\n"); sleep(60); }
    out_ = in_;
    for (float& value : out_.data) value *= 2;
    if (word_ == "threads") out_.data[0] = threads_;
    if (word_ == "int-output") out_.precision = PrecisionType::kInt32;
    if (word_ == "nine-dims") out_.shape = shape_t(9, 1);
    if (word_ == "negative") out_.shape[0] = -1;
  }
  std::string GetVersion() const override { return VERSION; }
  std::vector<std::string> GetInputNames() override { return std::vector<std::string>(word_ == "two" ? 2 : 1, "x"); }
  std::vector<std::string> GetOutputNames() override { return {"y"}; }
 private:
  static void Abort(const char* text) { std::fprintf(stderr, "%s\n", text); std::abort(); }
  int threads_;
  std::string word_;
  Raw in_, out_;
};
template <> std::shared_ptr<PaddlePredictor> CreatePaddlePredictor(const MobileConfig& config) {
  return std::make_shared<Predictor>(config);
}
} }
extern const char kVersion[] = "\0" VERSION "\0abc1234";
