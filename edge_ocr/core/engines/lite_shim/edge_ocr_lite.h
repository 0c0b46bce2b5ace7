/* One model on Paddle-Lite's light API, as plain C: for ctypes on a board and for lite_serve.cpp.
 *
 * Functions that can fail return EDGE_OCR_LITE_OK or another edge_ocr_lite_status; the text of the calling thread's last
 * failure is edge_ocr_lite_get_error(). C++ exceptions become EDGE_OCR_LITE_FAILED. Paddle-Lite's release builds do not
 * throw but abort() where a check fails (a damaged model, an operator that is not there, a shape that does not fit), which
 * nothing in the same process can catch: run what is not trusted in a process of its own.
 *
 * A model is for one thread at a time. The number of threads and the power mode that Paddle-Lite computes with are
 * the process's: the model that runs last sets them.
 */
#ifndef EDGE_OCR_LITE_H
#define EDGE_OCR_LITE_H

#include <stddef.h>
#include <stdint.h>

#define EDGE_OCR_LITE_API __attribute__((visibility("default")))

#define EDGE_OCR_LITE_MAX_RANK 8
/* Of a tensor: 1 GiB of float32. */
#define EDGE_OCR_LITE_MAX_ELEMENTS (INT64_C(1) << 28)
#define EDGE_OCR_LITE_MAX_THREADS 256

#ifdef __cplusplus
extern "C" {
#endif

enum edge_ocr_lite_status {
  EDGE_OCR_LITE_OK = 0,
  EDGE_OCR_LITE_BAD_ARGUMENT = 1, /* an argument makes no sense; Paddle-Lite was not asked */
  EDGE_OCR_LITE_FAILED = 2,       /* Paddle-Lite threw, or gave what is of no use */
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

/* The last failure of the calling thread; "" where there was none. Good until the thread's next failure. */
EDGE_OCR_LITE_API const char* edge_ocr_lite_get_error(void);

/* Load a .nb file. `*model` is NULL after a failure. Paddle-Lite loads a file of another version with a warning at most,
 * and may then compute nonsense: compare edge_ocr_lite_get_version() before the first run. */
EDGE_OCR_LITE_API int edge_ocr_lite_create(const char* path, int threads, int power_mode, edge_ocr_lite** model);

/* NULL is allowed. What was borrowed from the model ends with it. */
EDGE_OCR_LITE_API void edge_ocr_lite_destroy(edge_ocr_lite* model);

/* Of the library, such as "v2.13-rc". The light API tells it through a loaded model only. */
EDGE_OCR_LITE_API const char* edge_ocr_lite_get_version(const edge_ocr_lite* model);

EDGE_OCR_LITE_API size_t edge_ocr_lite_count_inputs(const edge_ocr_lite* model);
EDGE_OCR_LITE_API size_t edge_ocr_lite_count_outputs(const edge_ocr_lite* model);

/* NULL where there is no such input or output. */
EDGE_OCR_LITE_API const char* edge_ocr_lite_get_input_name(const edge_ocr_lite* model, size_t index);
EDGE_OCR_LITE_API const char* edge_ocr_lite_get_output_name(const edge_ocr_lite* model, size_t index);

/* Give an input its shape and borrow its float32 buffer, row-major. Good until the next call of this function for that
 * input. Fill it before every run: a run may use the memory for something else. */
EDGE_OCR_LITE_API int edge_ocr_lite_borrow_input(edge_ocr_lite* model, size_t index, const int64_t* dims, size_t rank,
                                                 float** data);

EDGE_OCR_LITE_API int edge_ocr_lite_run(edge_ocr_lite* model);

/* Borrow a float32 output of the last run and its `rank` dims, without copying. Good until the next run or
 * edge_ocr_lite_borrow_input(). */
EDGE_OCR_LITE_API int edge_ocr_lite_borrow_output(edge_ocr_lite* model, size_t index, const float** data,
                                                  const int64_t** dims, size_t* rank);

#ifdef __cplusplus
}
#endif

#endif
