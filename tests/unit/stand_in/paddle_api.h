// The part of Paddle-Lite's light API that our programs need.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>
namespace paddle { namespace lite_api {
enum class PrecisionType : int { kUnk = 0, kFloat = 1, kInt8 = 2, kInt32 = 3 };
typedef enum { LITE_POWER_HIGH = 0, LITE_POWER_NO_BIND = 3 } PowerMode;
using shape_t = std::vector<int64_t>;
struct Tensor {
  explicit Tensor(void* raw) : raw_(raw) {}
  void Resize(const shape_t& shape);
  template <typename T> const T* data() const;
  template <typename T> T* mutable_data(int target = 0) const;
  shape_t shape() const;
  PrecisionType precision() const;
 private:
  void* raw_;
};
class PaddlePredictor {
 public:
  virtual std::unique_ptr<Tensor> GetInput(int i) = 0;
  virtual std::unique_ptr<const Tensor> GetOutput(int i) const = 0;
  virtual void Run() = 0;
  virtual std::string GetVersion() const = 0;
  virtual std::vector<std::string> GetInputNames() = 0;
  virtual std::vector<std::string> GetOutputNames() = 0;
  virtual void Unused(int ignored) {}
  virtual ~PaddlePredictor() = default;
};
struct ConfigBase { void set_threads(int threads); void set_power_mode(PowerMode mode); int threads_ = 0; };
struct MobileConfig : ConfigBase { void set_model_from_file(const std::string& path); std::string path_; };
template <typename C> std::shared_ptr<PaddlePredictor> CreatePaddlePredictor(const C&);
} }
