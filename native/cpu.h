// What this processor can do, by its own report.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "kernels.h"

namespace fivefold {

struct CpuReport {
  std::string vendor;
  std::string brand;
  std::vector<std::pair<std::string, bool>>
      features;  // usable: the processor has it and the system saves its registers
};

CpuReport cpu_report();

// Kernel tables that work here, slowest first. Never empty.
std::vector<const Kernels*> usable_kernels();

// The table of that name if it works here, or null.
const Kernels* find_kernels(const std::string& isa);

}  // namespace fivefold
