/* A qemu TCG plugin that counts what a program for AArch64 executes between two marks.
 *
 * Counts instructions, loads, stores, and the bytes that pass between a modelled cache and memory: by operator of a
 * network and by block of code. A mark is a system call that Linux does not have, made by the measured program:
 * syscall(EDGE_OCR_MARK, mark, first, second), with mark one of enum mark below.
 *
 *   qemu-aarch64 -plugin FILE.so,out=REPORT[,l1=BYTES,l2=BYTES,line=BYTES] PROGRAM ...
 *
 * Needs the plugin interface of version 1, as qemu 7.2 has it. Debian ships no header for it: what is used is declared
 * here. Blocks are counted when they start. One thread at a time may run between the marks.
 *
 * The report is text, one record a line:
 *   total|op INDEX  instructions loads stores bytes_read bytes_written
 *   block OP ADDRESS instructions       (of one operator, summed over its runs of the block; hexadecimal address)
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- the interface of qemu, version 1 */

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef uint32_t qemu_plugin_meminfo_t;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };
enum qemu_plugin_mem_rw { QEMU_PLUGIN_MEM_R = 1, QEMU_PLUGIN_MEM_W, QEMU_PLUGIN_MEM_RW };
typedef struct {
  const char* target_name;
  struct { int min, cur; } version;
  bool system_emulation;
  union { struct { int smp_vcpus, max_vcpus; } system; };
} qemu_info_t;

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb*));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb*, void (*)(unsigned, void*), enum qemu_plugin_cb_flags,
                                          void*);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn*,
                                      void (*)(unsigned, qemu_plugin_meminfo_t, uint64_t, void*),
                                      enum qemu_plugin_cb_flags, enum qemu_plugin_mem_rw, void*);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t,
                                          void (*)(qemu_plugin_id_t, unsigned, int64_t, uint64_t, uint64_t, uint64_t,
                                                   uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb*);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb*);
struct qemu_plugin_insn* qemu_plugin_tb_get_insn(const struct qemu_plugin_tb*, size_t);
const void* qemu_plugin_insn_data(const struct qemu_plugin_insn*);
bool qemu_plugin_mem_is_store(qemu_plugin_meminfo_t);
unsigned qemu_plugin_mem_size_shift(qemu_plugin_meminfo_t);

#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = 1;

/* --- marks, as in lite_count.cpp */

#define EDGE_OCR_MARK 0xED0C
enum mark {
  MARK_CODE = 1,  /* first, second: address range of the code in which operators are found */
  MARK_LEARN = 2, /* starts a run in which the code between operators is found */
  MARK_FOUND = 3, /* ends it; first: how many operators the run had */
  MARK_START = 4, /* starts the run that counts */
  MARK_END = 5,   /* ends it and writes the report */
};

/* --- blocks of code */

struct block {
  uint64_t address;
  uint32_t size, loads, stores; /* instructions */
  uint64_t runs;                /* since the last operator began, or the learning run */
  uint64_t first;               /* when the learning run first reached it, counted in blocks */
  bool is_boundary;
  struct block* next;    /* of the same hash */
  struct block* touched; /* since the last operator began */
};

struct counts {
  uint64_t instructions, loads, stores, read, written;
};

#define BUCKETS 65536
static struct block* blocks[BUCKETS];
static struct block* touched;
static enum { IDLE, LEARNING, COUNTING } state;
static uint64_t clock_blocks, code_start, code_end;
static struct counts now, total;
static long op;
static FILE* report;

static void fail(const char* what) {
  fprintf(stderr, "edge-ocr count: %s\n", what);
  exit(70);
}

/* --- the cache: two levels, 8 ways each, least recently used, write back, write allocate */

#define WAYS 8
struct cache {
  uint64_t sets;
  uint64_t* lines; /* sets × WAYS, most recent first: address of the line · 2 + dirty; 0 is empty */
};
static struct cache l1, l2;
static unsigned line_shift;

static void make_cache(struct cache* cache, uint64_t bytes) {
  cache->sets = bytes / WAYS >> line_shift;
  if (cache->sets == 0 || (cache->sets & (cache->sets - 1)) != 0) fail("l1, l2: expected a power of two");
  cache->lines = calloc(cache->sets * WAYS, sizeof *cache->lines);
  if (cache->lines == NULL) fail("no memory for the cache");
}

/* Move `line` to the front; return whether it was there. `*lost` is the dirty line that it replaced, or 0. */
static bool use_line(struct cache* cache, uint64_t line, bool dirty, uint64_t* lost) {
  uint64_t* set = cache->lines + (line & (cache->sets - 1)) * WAYS;
  const uint64_t tag = (line + 1) << 1; /* 0 stays free for empty */
  *lost = 0;
  if ((set[0] & ~UINT64_C(1)) == tag) {
    set[0] |= dirty;
    return true;
  }
  unsigned way = 1;
  while (way < WAYS - 1 && (set[way] & ~UINT64_C(1)) != tag) ++way;
  const uint64_t old = set[way];
  const bool hit = (old & ~UINT64_C(1)) == tag;
  memmove(set + 1, set, way * sizeof *set);
  set[0] = tag | dirty | (hit ? old & 1 : 0);
  if (!hit && (old & 1)) *lost = (old >> 1);
  return hit;
}

static void use_l2(uint64_t line, bool dirty, bool fetch) {
  uint64_t lost;
  const bool hit = use_line(&l2, line, dirty, &lost);
  if (!hit && fetch) now.read += UINT64_C(1) << line_shift;
  if (lost) now.written += UINT64_C(1) << line_shift;
}

static void on_access(unsigned cpu, qemu_plugin_meminfo_t info, uint64_t address, void* unused) {
  if (state != COUNTING) return;
  const bool store = qemu_plugin_mem_is_store(info);
  const uint64_t last = (address + (UINT64_C(1) << qemu_plugin_mem_size_shift(info)) - 1) >> line_shift;
  for (uint64_t line = address >> line_shift; line <= last; ++line) {
    uint64_t lost;
    if (!use_line(&l1, line, store, &lost)) use_l2(line, false, true);
    if (lost) use_l2(lost - 1, true, false); /* evicted whole: nothing to fetch */
  }
}

static void empty_caches(void) {
  if (l1.sets == 0) return;
  memset(l1.lines, 0, l1.sets * WAYS * sizeof *l1.lines);
  memset(l2.lines, 0, l2.sets * WAYS * sizeof *l2.lines);
}

/* --- counting */

static void end_op(void) {
  for (struct block* block = touched; block != NULL; block = block->touched) {
    const uint64_t instructions = block->runs * block->size;
    now.instructions += instructions;
    now.loads += block->runs * block->loads;
    now.stores += block->runs * block->stores;
    fprintf(report, "block %ld %" PRIx64 " %" PRIu64 "\n", op, block->address, instructions);
    block->runs = 0;
  }
  touched = NULL;
  fprintf(report, "op %ld %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", op, now.instructions,
          now.loads, now.stores, now.read, now.written);
  total.instructions += now.instructions;
  total.loads += now.loads;
  total.stores += now.stores;
  total.read += now.read;
  total.written += now.written;
  memset(&now, 0, sizeof now);
}

static void on_block(unsigned cpu, void* data) {
  struct block* block = data;
  if (state == IDLE) return;
  if (state == LEARNING) {
    if (block->runs++ == 0) block->first = clock_blocks;
    ++clock_blocks;
    return;
  }
  if (block->is_boundary) {
    end_op();
    ++op;
  }
  if (block->runs++ == 0) {
    block->touched = touched;
    touched = block;
  }
}

static void forget_runs(void) {
  for (size_t i = 0; i < BUCKETS; ++i) {
    for (struct block* block = blocks[i]; block != NULL; block = block->next) block->runs = block->first = 0;
  }
}

/* The loop over operators runs some block once per operator, and reaches it before anything that an operator calls. */
static void find_boundary(uint64_t ops) {
  struct block* best = NULL;
  for (size_t i = 0; i < BUCKETS; ++i) {
    for (struct block* block = blocks[i]; block != NULL; block = block->next) {
      const bool inside = block->address >= code_start && block->address < code_end;
      if (inside && block->runs == ops && (best == NULL || block->first < best->first)) best = block;
    }
  }
  if (best == NULL) fail("no block of code runs once per operator");
  best->is_boundary = true;
}

static void on_syscall(qemu_plugin_id_t id, unsigned cpu, int64_t number, uint64_t mark, uint64_t first,
                       uint64_t second, uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8) {
  if (number != EDGE_OCR_MARK) return;
  switch (mark) {
    case MARK_CODE:
      code_start = first;
      code_end = second;
      break;
    case MARK_LEARN:
      forget_runs();
      clock_blocks = 0;
      state = LEARNING;
      break;
    case MARK_FOUND:
      state = IDLE;
      find_boundary(first);
      forget_runs();
      break;
    case MARK_START:
      empty_caches();
      memset(&total, 0, sizeof total);
      op = -1; /* what comes before the first operator */
      state = COUNTING;
      break;
    case MARK_END:
      if (state != COUNTING) fail("an end without a start");
      state = IDLE;
      end_op();
      fprintf(report, "total %ld %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", op + 1,
              total.instructions, total.loads, total.stores, total.read, total.written);
      if (fflush(report) != 0) fail("cannot write the report");
      break;
  }
}

/* Tell loads and stores apart; Arm ARM (DDI 0487), C4.1, "Loads and Stores". Prefetches are neither. */
static void classify(uint32_t code, struct block* block) {
  if ((code & 0x0a000000) != 0x08000000) return;
  const uint32_t size = code >> 30, vector = code >> 26 & 1, opc = code >> 22 & 3;
  bool load;
  if ((code & 0x3b000000) == 0x18000000) { /* literal */
    if (!vector && size == 3) return;
    load = true;
  } else if ((code & 0x38000000) == 0x38000000) { /* one register */
    if (!vector && size == 3 && opc == 2) return;
    load = vector ? opc & 1 : opc != 0;
  } else {
    load = code >> 22 & 1;
  }
  if (load) ++block->loads; else ++block->stores;
}

static struct block* find_block(struct qemu_plugin_tb* tb) {
  const uint64_t address = qemu_plugin_tb_vaddr(tb);
  const uint32_t size = (uint32_t)qemu_plugin_tb_n_insns(tb);
  struct block** bucket = &blocks[(address >> 2) % BUCKETS];
  for (struct block* block = *bucket; block != NULL; block = block->next) {
    if (block->address == address && block->size == size) return block;
  }
  struct block* block = calloc(1, sizeof *block);
  if (block == NULL) fail("no memory for a block");
  block->address = address;
  block->size = size;
  block->next = *bucket;
  *bucket = block;
  for (size_t i = 0; i < size; ++i) {
    uint32_t code;
    memcpy(&code, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(tb, i)), sizeof code);
    classify(code, block);
  }
  return block;
}

static void on_translated(qemu_plugin_id_t id, struct qemu_plugin_tb* tb) {
  struct block* block = find_block(tb);
  qemu_plugin_register_vcpu_tb_exec_cb(tb, on_block, QEMU_PLUGIN_CB_NO_REGS, block);
  if (l1.sets == 0) return;
  for (size_t i = 0; i < block->size; ++i) {
    qemu_plugin_register_vcpu_mem_cb(qemu_plugin_tb_get_insn(tb, i), on_access, QEMU_PLUGIN_CB_NO_REGS,
                                     QEMU_PLUGIN_MEM_RW, NULL);
  }
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t* info, int argc, char** argv) {
  uint64_t l1_bytes = 0, l2_bytes = 0, line_bytes = 64;
  if (strcmp(info->target_name, "aarch64") != 0 || info->system_emulation) fail("expected qemu-aarch64");
  for (int i = 0; i < argc; ++i) {
    if (strncmp(argv[i], "out=", 4) == 0) report = fopen(argv[i] + 4, "w");
    else if (strncmp(argv[i], "l1=", 3) == 0) l1_bytes = strtoull(argv[i] + 3, NULL, 10);
    else if (strncmp(argv[i], "l2=", 3) == 0) l2_bytes = strtoull(argv[i] + 3, NULL, 10);
    else if (strncmp(argv[i], "line=", 5) == 0) line_bytes = strtoull(argv[i] + 5, NULL, 10);
    else fail("expected out, l1, l2 or line");
  }
  if (report == NULL) fail("out: cannot be written");
  while ((UINT64_C(1) << line_shift) < line_bytes) ++line_shift;
  if ((UINT64_C(1) << line_shift) != line_bytes) fail("line: expected a power of two");
  if (l1_bytes != 0) {
    make_cache(&l1, l1_bytes);
    make_cache(&l2, l2_bytes);
  }
  qemu_plugin_register_vcpu_tb_trans_cb(id, on_translated);
  qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
  return 0;
}
