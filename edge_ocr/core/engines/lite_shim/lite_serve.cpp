// edge-ocr-lite-serve MODEL.nb THREADS: runs one model for a host that talks to it through stdin and stdout.
//
// All numbers are little-endian. First, once loading has succeeded or failed:
//   char[8] "EOCRLITE", u32 protocol (1), u32 status, u32 length, text: version of the library, or the error
// Then for each run:
//   request: u32 rank, rank × i64 dims, float32 data
//   answer:  u32 0, u32 rank, rank × i64 dims, float32 data;  or  u32 status, u32 length, text
// The program ends with 0 when the host closes stdin between runs, with 2 if it cannot continue.

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "edge_ocr_lite.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ && sizeof(float) == 4, "the protocol copies memory unchanged");

namespace {

const char kMagic[8] = {'E', 'O', 'C', 'R', 'L', 'I', 'T', 'E'};
const uint32_t kProtocol = 1;
const int kExitBroken = 2;

class Channel {
 public:
  Channel(int in, int out) : in_(in), out_(out) {}

  // Return how many bytes arrived before the end of the stream; normally `size`.
  size_t Read(void* data, size_t size) const {
    size_t done = 0;
    while (done < size) {
      const ssize_t count = read(in_, static_cast<char*>(data) + done, size - done);
      if (count == 0 || (count < 0 && errno != EINTR)) break;
      if (count > 0) done += static_cast<size_t>(count);
    }
    return done;
  }

  bool Skip(size_t size) const {
    std::vector<char> scratch(1 << 16);
    while (size > 0) {
      const size_t part = std::min(size, scratch.size());
      if (Read(scratch.data(), part) < part) return false;
      size -= part;
    }
    return true;
  }

  bool Write(const void* data, size_t size) const {
    size_t done = 0;
    while (done < size) {
      const ssize_t count = write(out_, static_cast<const char*>(data) + done, size - done);
      if (count < 0 && errno != EINTR) return false;
      if (count > 0) done += static_cast<size_t>(count);
    }
    return true;
  }

  bool WriteText(uint32_t status, const char* text) const {
    const uint32_t length = static_cast<uint32_t>(std::strlen(text));
    return Write(&status, sizeof status) && Write(&length, sizeof length) && Write(text, length);
  }

 private:
  int in_;
  int out_;
};

// Serve one request; return false if the stream is broken, which ends the program.
bool Serve(const Channel& channel, edge_ocr_lite* model, uint32_t rank) {
  int64_t dims[EDGE_OCR_LITE_MAX_RANK];
  if (rank < 1 || rank > EDGE_OCR_LITE_MAX_RANK) {
    channel.WriteText(EDGE_OCR_LITE_BAD_ARGUMENT, "rank: expected 1 to 8");
    return false;
  }
  if (channel.Read(dims, rank * sizeof *dims) < rank * sizeof *dims) return false;
  int64_t count = 1;
  for (uint32_t i = 0; i < rank; ++i) {
    // The end of the data is then unknown, so nothing after it can be read.
    if (dims[i] < 1 || dims[i] > EDGE_OCR_LITE_MAX_ELEMENTS / count) {
      channel.WriteText(EDGE_OCR_LITE_BAD_ARGUMENT, "dims: expected positive numbers and at most 2^28 elements");
      return false;
    }
    count *= dims[i];
  }
  const size_t size = static_cast<size_t>(count) * sizeof(float);

  float* input = nullptr;
  int status = edge_ocr_lite_borrow_input(model, 0, dims, rank, &input);
  if (status == EDGE_OCR_LITE_OK ? channel.Read(input, size) < size : !channel.Skip(size)) return false;

  const float* output = nullptr;
  const int64_t* output_dims = nullptr;
  size_t output_rank = 0;
  if (status == EDGE_OCR_LITE_OK) status = edge_ocr_lite_run(model);
  if (status == EDGE_OCR_LITE_OK) {
    status = edge_ocr_lite_borrow_output(model, 0, &output, &output_dims, &output_rank);
  }
  if (status != EDGE_OCR_LITE_OK) return channel.WriteText(static_cast<uint32_t>(status), edge_ocr_lite_get_error());

  size_t output_size = sizeof(float);
  for (size_t i = 0; i < output_rank; ++i) output_size *= static_cast<size_t>(output_dims[i]);
  const uint32_t head[2] = {EDGE_OCR_LITE_OK, static_cast<uint32_t>(output_rank)};
  return channel.Write(head, sizeof head) && channel.Write(output_dims, output_rank * sizeof *output_dims) &&
         channel.Write(output, output_size);
}

}  // namespace

int main(int argc, char** argv) {
  // Paddle-Lite and its dependencies may print, so stdout goes to stderr; only the protocol uses the original stdout.
  const int out = dup(STDOUT_FILENO);
  if (out < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0) return kExitBroken;
  // Paddle-Lite aborts on invalid models; leave no core file.
  const struct rlimit none = {0, 0};
  setrlimit(RLIMIT_CORE, &none);

  if (argc != 3) {
    std::fprintf(stderr, "usage: edge-ocr-lite-serve MODEL.nb THREADS\n");
    return kExitBroken;
  }
  const Channel channel(STDIN_FILENO, out);
  edge_ocr_lite* model = nullptr;
  int status = edge_ocr_lite_create(argv[1], std::atoi(argv[2]), EDGE_OCR_LITE_POWER_NO_BIND, &model);
  std::string text = status == EDGE_OCR_LITE_OK ? edge_ocr_lite_get_version(model) : edge_ocr_lite_get_error();
  if (status == EDGE_OCR_LITE_OK &&
      (edge_ocr_lite_count_inputs(model) != 1 || edge_ocr_lite_count_outputs(model) != 1)) {
    status = EDGE_OCR_LITE_FAILED;
    text = "the model has " + std::to_string(edge_ocr_lite_count_inputs(model)) + " inputs and " +
           std::to_string(edge_ocr_lite_count_outputs(model)) + " outputs, expected one of each";
  }
  if (!channel.Write(kMagic, sizeof kMagic) || !channel.Write(&kProtocol, sizeof kProtocol) ||
      !channel.WriteText(static_cast<uint32_t>(status), text.c_str()) || status != EDGE_OCR_LITE_OK) {
    return kExitBroken;
  }

  for (;;) {
    uint32_t rank = 0;
    const size_t count = channel.Read(&rank, sizeof rank);
    if (count == 0) break;
    if (count < sizeof rank || !Serve(channel, model, rank)) return kExitBroken;
  }
  edge_ocr_lite_destroy(model);
  return 0;
}
