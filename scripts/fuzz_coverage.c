/* What gcc reports of each branch (-fsanitize-coverage=trace-pc) → the counters that libFuzzer reads; its start. */

#include <stddef.h>
#include <stdint.h>

#define COUNTERS (1 << 16)

static uint8_t counters[COUNTERS];

void __sanitizer_cov_8bit_counters_init(uint8_t *start, uint8_t *stop);
void __wrap___sanitizer_cov_trace_pc(void);
void __sanitizer_cov_trace_cmpf(float one, float other);
void __sanitizer_cov_trace_cmpd(double one, double other);

__attribute__((constructor)) static void start(void)
{
    __sanitizer_cov_8bit_counters_init(counters, counters + COUNTERS);
}

void __wrap___sanitizer_cov_trace_pc(void) /* libFuzzer's own only says that it wants clang */
{
    uintptr_t place = (uintptr_t)__builtin_return_address(0);
    counters[place % COUNTERS]++;
}

void __sanitizer_cov_trace_cmpf(float one, float other) { (void)one, (void)other; }
void __sanitizer_cov_trace_cmpd(double one, double other) { (void)one, (void)other; }

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);
int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*target)(const uint8_t *, size_t));
int main(int argc, char **argv) { return LLVMFuzzerRunDriver(&argc, &argv, LLVMFuzzerTestOneInput); }
