// Runs every kernel of every table that works here on the same random inputs and compares bits with the
// portable kernels. Prints a line for each table; the exit status is 1 if any bit differs.
#include <cinttypes>
#include <cstdio>

#include "cpu.h"
#include "record.h"

namespace fivefold {
namespace {

Record run_all(const Kernels& kernels) {
  Record record;
  run_row_kernels(kernels, record);
  run_linear_kernels(kernels, record);
  run_attention_kernels(kernels, record);
  return record;
}

// Prints where the two differ first.
bool same(const Result& expected, const Result& found) {
  if (expected.bits == found.bits) return true;
  size_t at = 0;
  while (expected.bits[at] == found.bits[at]) ++at;
  std::printf("%s: number %zu is %08" PRIx32 ", not %08" PRIx32 "\n", expected.what.c_str(), at,
              found.bits[at], expected.bits[at]);
  return false;
}

}  // namespace
}  // namespace fivefold

int main() {
  using namespace fivefold;
  const Record expected = run_all(kPortableKernels);
  size_t wrong = 0;
  for (const Kernels* table : usable_kernels()) {
    const Record found = run_all(*table);
    size_t differing = found.results().size() != expected.results().size();
    for (size_t i = 0; differing < 20 && i < expected.results().size(); ++i)
      differing += !same(expected.results()[i], found.results()[i]);
    std::printf("%s: %zu results, %zu differ\n", table->isa, found.results().size(), differing);
    wrong += differing;
  }
  return wrong != 0;
}
