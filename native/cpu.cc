#include "cpu.h"

#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace fivefold {
namespace {

#if defined(__x86_64__)

struct Registers {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(unsigned leaf, unsigned subleaf) {
  Registers r;
  if (__get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d) == 0) return {};
  return r;
}

bool bit(unsigned word, int index) { return (word >> index) & 1u; }

// The register states that the operating system saves on a task switch (XCR0).
unsigned saved_states(const Registers& leaf1) {
  if (!bit(leaf1.c, 27)) return 0;  // OSXSAVE
  unsigned low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

std::string vendor_name() {
  const Registers r = cpuid(0, 0);
  char name[13] = {};
  std::memcpy(name, &r.b, 4);
  std::memcpy(name + 4, &r.d, 4);
  std::memcpy(name + 8, &r.c, 4);
  return name;
}

std::string brand_name() {
  if (cpuid(0x80000000u, 0).a < 0x80000004u) return "";
  char name[49] = {};
  for (unsigned i = 0; i < 3; ++i) {
    const Registers r = cpuid(0x80000002u + i, 0);
    std::memcpy(name + 16 * i, &r, 16);
  }
  const std::string text = name;
  const size_t first = text.find_first_not_of(' ');
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(' ') - first + 1);
}

#endif

bool has(const CpuReport& report, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    bool found = false;
    for (const auto& feature : report.features) found = found || (feature.first == name && feature.second);
    if (!found) return false;
  }
  return true;
}

}  // namespace

CpuReport cpu_report() {
  CpuReport report;
#if defined(__x86_64__)
  report.vendor = vendor_name();
  report.brand = brand_name();
  const Registers one = cpuid(1, 0), seven = cpuid(7, 0), seven_one = cpuid(7, 1);
  const unsigned saved = saved_states(one);
  const bool ymm = (saved & 0x06u) == 0x06u;
  const bool zmm = (saved & 0xe6u) == 0xe6u;
  report.features = {
      {"avx", ymm && bit(one.c, 28)},           {"f16c", ymm && bit(one.c, 29)},
      {"fma", ymm && bit(one.c, 12)},           {"avx2", ymm && bit(seven.b, 5)},
      {"avx_vnni", ymm && bit(seven_one.a, 4)}, {"avx512f", zmm && bit(seven.b, 16)},
      {"avx512dq", zmm && bit(seven.b, 17)},    {"avx512bw", zmm && bit(seven.b, 30)},
      {"avx512vl", zmm && bit(seven.b, 31)},    {"avx512_vnni", zmm && bit(seven.c, 11)},
  };
#elif defined(__aarch64__)
  // The bits of asm/hwcap.h, which older systems have not all.
  const unsigned long one = getauxval(AT_HWCAP), two = getauxval(AT_HWCAP2);
  report.features = {
      {"asimd", one >> 1 & 1}, {"asimdhp", one >> 10 & 1}, {"asimddp", one >> 20 & 1},
      {"sve", one >> 22 & 1},  {"sve2", two >> 1 & 1},     {"i8mm", two >> 13 & 1},
  };
#endif
  return report;
}

std::vector<const Kernels*> usable_kernels() {
  std::vector<const Kernels*> tables = {&kPortableKernels};
  const CpuReport report = cpu_report();
#if defined(__x86_64__)
  if (has(report, {"avx2", "fma", "f16c"})) {
    tables.push_back(&kAvx2Kernels);
    if (has(report, {"avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512_vnni"}))
      tables.push_back(&kAvx512Kernels);
  }
#elif defined(__aarch64__)
  if (has(report, {"asimd"})) {
    tables.push_back(&kNeonKernels);
    if (has(report, {"asimddp"})) tables.push_back(&kDotprodKernels);
  }
#else
  (void)has(report, {});
#endif
  return tables;
}

const Kernels* find_kernels(const std::string& isa) {
  for (const Kernels* table : usable_kernels())
    if (isa == table->isa) return table;
  return nullptr;
}

}  // namespace fivefold
