// edge-ocr-lite-count MODEL.nb OPS LIBRARY INPUT OUTPUT DIM...: runs a model three times, with marks for count.c.
//
// OPS is how many operators a run has, LIBRARY the name of the library's file. INPUT and OUTPUT are files of
// little-endian float32. The first run prepares the kernels, the second finds where operators begin, the third is
// counted. Prints, as its last lines:
//   version VERSION      of the library
//   library START END    where it is loaded, and the end of its code; hexadecimal
//   output DIM...

#include <dlfcn.h>
#include <link.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "edge_ocr_lite.h"

namespace {

// As in count.c.
const long kMark = 0xED0C;
enum { kCode = 1, kLearn = 2, kFound = 3, kStart = 4, kEnd = 5 };
// More than RuntimeProgram::Run() has: 432 bytes in v2.13-rc, built with GCC 12.
const uint64_t kLoopBytes = 1024;

void Mark(int mark, uint64_t first = 0, uint64_t second = 0) { syscall(kMark, mark, first, second); }

int MarkCode(dl_phdr_info* info, size_t, void* library) {
  const char* slash = std::strrchr(info->dlpi_name, '/');
  if (std::strcmp(slash == nullptr ? info->dlpi_name : slash + 1, static_cast<const char*>(library)) != 0) return 0;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& part = info->dlpi_phdr[i];
    if (part.p_type != PT_LOAD || !(part.p_flags & PF_X)) continue;
    const uint64_t start = info->dlpi_addr + part.p_vaddr, end = start + part.p_memsz;
    // A block of code that is not the loop over operators may run as often by chance.
    void* handle = dlopen(info->dlpi_name, RTLD_NOLOAD | RTLD_LAZY);
    void* loop = handle == nullptr ? nullptr : dlsym(handle, "_ZN6paddle4lite14RuntimeProgram3RunEv");
    const uint64_t address = reinterpret_cast<uint64_t>(loop);
    if (loop == nullptr) {
      Mark(kCode, start, end);
    } else {
      Mark(kCode, address, std::min(address + kLoopBytes, end));
    }
    std::printf("library %llx %llx\n", static_cast<unsigned long long>(info->dlpi_addr),
                static_cast<unsigned long long>(end));
  }
  return 1;
}

int Fail(const std::string& what) {
  std::fprintf(stderr, "edge-ocr-lite-count: %s\n", what.c_str());
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 7 || argc > 6 + EDGE_OCR_LITE_MAX_RANK) return Fail("usage: MODEL.nb OPS LIBRARY INPUT OUTPUT DIM...");
  std::vector<int64_t> dims;
  for (int i = 6; i < argc; ++i) dims.push_back(std::atoll(argv[i]));
  size_t count = 1;
  for (int64_t dim : dims) count *= static_cast<size_t>(dim);
  std::vector<float> values(count);
  FILE* file = std::fopen(argv[4], "rb");
  if (file == nullptr || std::fread(values.data(), sizeof(float), count, file) != count) {
    return Fail("cannot read INPUT");
  }
  std::fclose(file);

  edge_ocr_lite* model = nullptr;
  if (edge_ocr_lite_create(argv[1], 1, EDGE_OCR_LITE_POWER_NO_BIND, &model) != EDGE_OCR_LITE_OK) {
    return Fail(edge_ocr_lite_get_error());
  }
  std::printf("version %s\n", edge_ocr_lite_get_version(model));
  if (dl_iterate_phdr(MarkCode, argv[3]) == 0) return Fail("LIBRARY is not loaded");
  for (int run = 0; run < 3; ++run) {
    float* input = nullptr;
    if (edge_ocr_lite_borrow_input(model, 0, dims.data(), dims.size(), &input) != EDGE_OCR_LITE_OK) {
      return Fail(edge_ocr_lite_get_error());
    }
    std::memcpy(input, values.data(), count * sizeof(float));
    if (run > 0) Mark(run == 1 ? kLearn : kStart);
    const int status = edge_ocr_lite_run(model);
    if (run > 0) Mark(run == 1 ? kFound : kEnd, static_cast<uint64_t>(std::atoll(argv[2])));
    if (status != EDGE_OCR_LITE_OK) return Fail(edge_ocr_lite_get_error());
  }
  const float* output = nullptr;
  const int64_t* output_dims = nullptr;
  size_t rank = 0, size = 1;
  if (edge_ocr_lite_borrow_output(model, 0, &output, &output_dims, &rank) != EDGE_OCR_LITE_OK) {
    return Fail(edge_ocr_lite_get_error());
  }
  std::printf("output");
  for (size_t i = 0; i < rank; ++i) {
    size *= static_cast<size_t>(output_dims[i]);
    std::printf(" %lld", static_cast<long long>(output_dims[i]));
  }
  std::printf("\n");
  file = std::fopen(argv[5], "wb");
  if (file == nullptr || std::fwrite(output, sizeof(float), size, file) != size || std::fclose(file) != 0) {
    return Fail("cannot write OUTPUT");
  }
  edge_ocr_lite_destroy(model);
  return 0;
}
