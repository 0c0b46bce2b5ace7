/* One model on Paddle-Lite's light API, as plain C: for ctypes on a board and for lite_serve.cpp.
 *
 * Functions that can fail return EDGE_OCR_LITE_OK or another edge_ocr_lite_status; edge_ocr_lite_get_error()
 * returns the text of the calling thread's last failure. C++ exceptions become EDGE_OCR_LITE_FAILED. Release builds of
 * Paddle-Lite call abort() instead of throwing if a check fails (damaged model, missing operator, mismatched shape).
 * Nothing in the same process can catch that, so run untrusted models in a separate process.
 *
 * Use a model from one thread at a time. Paddle-Lite's number of threads and power mode apply to the whole process: the
 * model that ran last sets them.
 */
#ifndef EDGE_OCR_LITE_H
#define EDGE_OCR_LITE_H

#include <stddef.h>
#include <stdint.h>

#define EDGE_OCR_LITE_API __attribute__((visibility("default")))

#define EDGE_OCR_LITE_MAX_RANK 8
/* The most elements of a tensor: 1 GiB of float32. */
#define EDGE_OCR_LITE_MAX_ELEMENTS (INT64_C(1) << 28)
#define EDGE_OCR_LITE_MAX_THREADS 256

#ifdef __cplusplus
extern "C" {
#endif

enum edge_ocr_lite_status {
  EDGE_OCR_LITE_OK = 0,
  EDGE_OCR_LITE_BAD_ARGUMENT = 1, /* an argument is invalid; Paddle-Lite was not called */
  EDGE_OCR_LITE_FAILED = 2,       /* Paddle-Lite threw, or returned something unusable */
  EDGE_OCR_LITE_NO_MEMORY = 3
};

/* Which cores to use; the values are Paddle-Lite's. */
enum edge_ocr_lite_power_mode {
  EDGE_OCR_LITE_POWER_HIGH = 0,
  EDGE_OCR_LITE_POWER_LOW = 1,
  EDGE_OCR_LITE_POWER_FULL = 2,
  EDGE_OCR_LITE_POWER_NO_BIND = 3,
  EDGE_OCR_LITE_POWER_RAND_HIGH = 4,
  EDGE_OCR_LITE_POWER_RAND_LOW = 5
};

typedef struct edge_ocr_lite edge_ocr_lite;

/* The calling thread's last failure; "" if there was none. Valid until the thread's next failure. */
EDGE_OCR_LITE_API const char* edge_ocr_lite_get_error(void);

/* Load a .nb file. `*model` is NULL after a failure. For a file of another version, Paddle-Lite logs a warning at
 * most and may then compute nonsense: compare edge_ocr_lite_get_version() before the first run. */
EDGE_OCR_LITE_API int edge_ocr_lite_create(const char* path, int threads, int power_mode, edge_ocr_lite** model);

/* NULL is allowed. Buffers borrowed from the model become invalid. */
EDGE_OCR_LITE_API void edge_ocr_lite_destroy(edge_ocr_lite* model);

/* The library's version, such as "v2.13-rc". The light API reports it only through a loaded model. */
EDGE_OCR_LITE_API const char* edge_ocr_lite_get_version(const edge_ocr_lite* model);

EDGE_OCR_LITE_API size_t edge_ocr_lite_count_inputs(const edge_ocr_lite* model);
EDGE_OCR_LITE_API size_t edge_ocr_lite_count_outputs(const edge_ocr_lite* model);

/* NULL if there is no such input or output. */
EDGE_OCR_LITE_API const char* edge_ocr_lite_get_input_name(const edge_ocr_lite* model, size_t index);
EDGE_OCR_LITE_API const char* edge_ocr_lite_get_output_name(const edge_ocr_lite* model, size_t index);

/* Set the shape of an input and borrow its float32 buffer, row-major. Valid until the next call of this function for
 * that input. Fill it before every run: a run may reuse the memory. */
EDGE_OCR_LITE_API int edge_ocr_lite_borrow_input(edge_ocr_lite* model, size_t index, const int64_t* dims, size_t rank,
                                                 float** data);

EDGE_OCR_LITE_API int edge_ocr_lite_run(edge_ocr_lite* model);

/* Borrow a float32 output of the last run and its `rank` dims, without copying. Valid until the next run or
 * edge_ocr_lite_borrow_input(). */
EDGE_OCR_LITE_API int edge_ocr_lite_borrow_output(edge_ocr_lite* model, size_t index, const float** data,
                                                  const int64_t** dims, size_t* rank);

#ifdef __cplusplus
}
#endif

#endif
