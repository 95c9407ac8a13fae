#include "memory.h"

#include <sys/mman.h>

#include <new>
#include <utility>

// Under AddressSanitizer no access past the end is missed: prefetches are not checked.
#if defined(__SANITIZE_ADDRESS__)
#define FIVEFOLD_CHECKED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIVEFOLD_CHECKED 1
#endif
#endif
#if defined(FIVEFOLD_CHECKED)
#include <sanitizer/asan_interface.h>
#define FIVEFOLD_POISON(start, bytes) __asan_poison_memory_region(start, size_t(bytes))
#define FIVEFOLD_UNPOISON(start, bytes) __asan_unpoison_memory_region(start, size_t(bytes))
#else
#define FIVEFOLD_POISON(start, bytes) static_cast<void>(0)
#define FIVEFOLD_UNPOISON(start, bytes) static_cast<void>(0)
#endif

namespace fivefold {
namespace {

[[maybe_unused]] uint8_t* end_of(void* mapping, size_t bytes) {
  return static_cast<uint8_t*>(mapping) + bytes;
}

}  // namespace

Memory::Memory(size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  constexpr size_t kHuge = size_t(2) << 20;
  const size_t extra = bytes >= kHuge ? kHuge : 0;
  if (bytes > SIZE_MAX - extra - 4096) throw std::bad_alloc();
  mapped_ = bytes + extra + 4096;  // kernels may prefetch past the end
  mapping_ = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping_ == MAP_FAILED) {
    mapping_ = nullptr;
    throw std::bad_alloc();
  }
  uintptr_t start = reinterpret_cast<uintptr_t>(mapping_);
  if (extra != 0) {
    start = (start + kHuge - 1) / kHuge * kHuge;
#if defined(MADV_HUGEPAGE)
    madvise(reinterpret_cast<void*>(start), bytes, MADV_HUGEPAGE);  // advice: failure only costs speed
#endif
  }
  data_ = reinterpret_cast<uint8_t*>(start);
  FIVEFOLD_POISON(data_ + bytes, end_of(mapping_, mapped_) - (data_ + bytes));
}

Memory::~Memory() {
  if (mapping_ == nullptr) return;
  FIVEFOLD_UNPOISON(data_ + size_, end_of(mapping_, mapped_) - (data_ + size_));
  munmap(mapping_, mapped_);
}

Memory::Memory(Memory&& other) noexcept { *this = std::move(other); }

Memory& Memory::operator=(Memory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(mapping_, other.mapping_);
  std::swap(mapped_, other.mapped_);
  return *this;
}

}  // namespace fivefold
