#include "edge_ocr_lite.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <vector>

// Paddle-Lite's names must stay visible under -fvisibility=hidden, or the linker looks for them in our own objects. Its
// headers leave parameters and functions unused.
#pragma GCC visibility push(default)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wunused-function"
#include "paddle_api.h"
#pragma GCC diagnostic pop
#pragma GCC visibility pop

#if defined(__GLIBC__)
// Newer compilers let shared_ptr read this variable of glibc 2.32, which older boards lack. 0 is always safe: it means
// that there may be threads.
extern "C" {
__attribute__((visibility("hidden"))) char __libc_single_threaded = 0;
}
#endif

namespace lite = paddle::lite_api;

struct edge_ocr_lite {
  std::shared_ptr<lite::PaddlePredictor> predictor;
  std::string version;
  std::vector<std::string> inputs;
  std::vector<std::string> outputs;
  std::unique_ptr<const lite::Tensor> output;
  lite::shape_t output_dims;
  bool has_run = false;
};

namespace {

// Not a std::string: reporting a failure must not fail.
thread_local char last_error[4096];

int Refuse(int status, const char* what, const char* why = "") {
  std::snprintf(last_error, sizeof last_error, "%s%s%s", what, *why != '\0' ? ": " : "", why);
  return status;
}

// Run `body`, which returns a status, and turn exceptions into a status.
template <typename Body>
int Guard(const char* what, const Body& body) noexcept {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return Refuse(EDGE_OCR_LITE_NO_MEMORY, what, "out of memory");
  } catch (const std::exception& error) {
    return Refuse(EDGE_OCR_LITE_FAILED, what, error.what());
  } catch (...) {
    return Refuse(EDGE_OCR_LITE_FAILED, what, "an exception without a message");
  }
}

// Discards stderr during its lifetime.
class Silence {
 public:
  Silence() : stderr_(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1)) {
    const int nothing = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (stderr_ >= 0 && nothing >= 0) dup2(nothing, STDERR_FILENO);
    if (nothing >= 0) close(nothing);
  }
  ~Silence() {
    if (stderr_ < 0) return;
    dup2(stderr_, STDERR_FILENO);
    close(stderr_);
  }
  Silence(const Silence&) = delete;
  Silence& operator=(const Silence&) = delete;

 private:
  int stderr_;
};

// With its first config, Paddle-Lite prints twenty lines about the processor. No message about a model is lost here.
bool MakeFirstConfig() {
  const Silence silence;
  const lite::MobileConfig config;
  return true;
}

// Paddle-Lite aborts on a file that it cannot open.
bool CanRead(const char* path) {
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path, "rb"), std::fclose);
  if (file != nullptr && std::fgetc(file.get()) != EOF) return true;
  const bool is_empty = file != nullptr && std::ferror(file.get()) == 0;
  Refuse(EDGE_OCR_LITE_BAD_ARGUMENT, path, is_empty ? "is empty" : std::strerror(errno));
  return false;
}

bool IsShape(const int64_t* dims, size_t rank) {
  if (rank < 1 || rank > EDGE_OCR_LITE_MAX_RANK) return false;
  int64_t count = 1;
  for (size_t i = 0; i < rank; ++i) {
    if (dims[i] < 1 || dims[i] > EDGE_OCR_LITE_MAX_ELEMENTS / count) return false;
    count *= dims[i];
  }
  return true;
}

const char* GetName(const std::vector<std::string>& names, size_t index) {
  if (index < names.size()) return names[index].c_str();
  Refuse(EDGE_OCR_LITE_BAD_ARGUMENT, "there is no such input or output");
  return nullptr;
}

}  // namespace

const char* edge_ocr_lite_get_error(void) { return last_error; }

int edge_ocr_lite_create(const char* path, int threads, int power_mode, edge_ocr_lite** model) {
  if (model == nullptr) return Refuse(EDGE_OCR_LITE_BAD_ARGUMENT, "model is NULL");
  *model = nullptr;
  if (path == nullptr) return Refuse(EDGE_OCR_LITE_BAD_ARGUMENT, "path is NULL");
  if (threads < 1 || threads > EDGE_OCR_LITE_MAX_THREADS) {
    return Refuse(EDGE_OCR_LITE_BAD_ARGUMENT, "threads: expected 1 to 256");
  }
  if (power_mode < EDGE_OCR_LITE_POWER_HIGH || power_mode > EDGE_OCR_LITE_POWER_RAND_LOW) {
    return Refuse(EDGE_OCR_LITE_BAD_ARGUMENT, "power mode: expected 0 to 5");
  }
  return Guard("Paddle-Lite cannot load the model", [&]() -> int {
    if (!CanRead(path)) return EDGE_OCR_LITE_BAD_ARGUMENT;
    // One thread makes it; the others wait.
    static const bool is_silenced = MakeFirstConfig();
    (void)is_silenced;
    lite::MobileConfig config;
    config.set_model_from_file(path);
    config.set_threads(threads);
    config.set_power_mode(static_cast<lite::PowerMode>(power_mode));
    std::unique_ptr<edge_ocr_lite> made(new edge_ocr_lite);
    made->predictor = lite::CreatePaddlePredictor<lite::MobileConfig>(config);
    if (made->predictor == nullptr) return Refuse(EDGE_OCR_LITE_FAILED, "Paddle-Lite made no predictor");
    made->version = made->predictor->GetVersion();
    made->inputs = made->predictor->GetInputNames();
    made->outputs = made->predictor->GetOutputNames();
    *model = made.release();
    return EDGE_OCR_LITE_OK;
  });
}

void edge_ocr_lite_destroy(edge_ocr_lite* model) {
  Guard("Paddle-Lite cannot free the model", [&]() -> int {
    delete model;
    return EDGE_OCR_LITE_OK;
  });
}

const char* edge_ocr_lite_get_version(const edge_ocr_lite* model) { return model->version.c_str(); }

size_t edge_ocr_lite_count_inputs(const edge_ocr_lite* model) { return model->inputs.size(); }

size_t edge_ocr_lite_count_outputs(const edge_ocr_lite* model) { return model->outputs.size(); }

const char* edge_ocr_lite_get_input_name(const edge_ocr_lite* model, size_t index) {
  return GetName(model->inputs, index);
}

const char* edge_ocr_lite_get_output_name(const edge_ocr_lite* model, size_t index) {
  return GetName(model->outputs, index);
}

int edge_ocr_lite_borrow_input(edge_ocr_lite* model, size_t index, const int64_t* dims, size_t rank, float** data) {
  if (GetName(model->inputs, index) == nullptr) return EDGE_OCR_LITE_BAD_ARGUMENT;
  if (!IsShape(dims, rank)) {
    return Refuse(EDGE_OCR_LITE_BAD_ARGUMENT, "shape: expected 1 to 8 positive dims and at most 2^28 elements");
  }
  model->has_run = false;
  return Guard("Paddle-Lite refuses the shape", [&]() -> int {
    const std::unique_ptr<lite::Tensor> input = model->predictor->GetInput(static_cast<int>(index));
    input->Resize(lite::shape_t(dims, dims + rank));
    *data = input->mutable_data<float>();
    if (*data == nullptr) return Refuse(EDGE_OCR_LITE_FAILED, "Paddle-Lite allocated no memory for the input");
    return EDGE_OCR_LITE_OK;
  });
}

int edge_ocr_lite_run(edge_ocr_lite* model) {
  model->has_run = false;
  return Guard("Paddle-Lite cannot run the model", [&]() -> int {
    model->predictor->Run();
    model->has_run = true;
    return EDGE_OCR_LITE_OK;
  });
}

int edge_ocr_lite_borrow_output(edge_ocr_lite* model, size_t index, const float** data, const int64_t** dims,
                                size_t* rank) {
  if (GetName(model->outputs, index) == nullptr) return EDGE_OCR_LITE_BAD_ARGUMENT;
  if (!model->has_run) return Refuse(EDGE_OCR_LITE_BAD_ARGUMENT, "there is no output before a run");
  return Guard("Paddle-Lite returns no output", [&]() -> int {
    model->output = model->predictor->GetOutput(static_cast<int>(index));
    if (model->output->precision() != lite::PrecisionType::kFloat) {
      return Refuse(EDGE_OCR_LITE_FAILED, "the output is not float32");
    }
    model->output_dims = model->output->shape();
    if (!IsShape(model->output_dims.data(), model->output_dims.size())) {
      return Refuse(EDGE_OCR_LITE_FAILED, "output shape: expected 1 to 8 positive dims and at most 2^28 elements");
    }
    *data = model->output->data<float>();
    *dims = model->output_dims.data();
    *rank = model->output_dims.size();
    return EDGE_OCR_LITE_OK;
  });
}
