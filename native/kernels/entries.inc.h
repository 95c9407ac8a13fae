// Entries of the cache: how each format turns floats to stored numbers and back, one of them at a time.
//
// A scaled format's number is scale * code, with the scale of its entry: the largest magnitude gets the
// largest code. Codes are rounded to nearest even. An entry with a number that is not finite has the scale
// NaN, so that it reads as NaN; one too small for its scale to have an inverse has the scale zero. Each has:
//   Number, kId                   a stored number; its row in entries.h
//   floats(p), value(x)           kWidth stored numbers as floats, or one; without their scale
//   codes(x, out)                 kWidth floats, divided by their scale, as stored numbers
//   kLargest                      the largest code, if there is a scale
// Where they lie is in entries.h.

struct F16Entry {
  using Number = uint16_t;
  static constexpr EntryId kId = EntryId::kF16;
  static F floats(const Number* p) { return load_half(p); }
  static float value(Number x) { return half_scalar(x); }
  static void codes(F x, Number* out) { store_half(out, x); }
};

struct Bf16Entry {
  using Number = uint16_t;
  static constexpr EntryId kId = EntryId::kBf16;
  static F floats(const Number* p) { return load_bfloat(p); }
  static float value(Number x) { return bfloat_to_float(x); }
  static void codes(F x, Number* out) {
    float all[kWidth];
    store(all, x);
    for (int i = 0; i < kWidth; ++i) out[i] = float_to_bfloat(all[i]);
  }
};

template <EntryId Id>
struct Int8 {
  using Number = int8_t;
  static constexpr EntryId kId = Id;
  static constexpr float kLargest = 127.0f;
  static F floats(const Number* p) { return load_int8(p); }
  static float value(Number x) { return float(x); }
  static void codes(F x, Number* out) { store_int8(out, round_int(x)); }
};

using Int8Entry = Int8<EntryId::kInt8>;
using PlainInt8Entry = Int8<EntryId::kPlainInt8>;

// The seven bits of a magnitude are those of a float16 from its fourth exponent bit down, which is the number
// over 256: so the largest code, 448, is 1.75 here. Subnormal ones are exact.
struct Fp8Entry {
  using Number = uint8_t;
  static constexpr EntryId kId = EntryId::kFp8;
  static constexpr float kLargest = 1.75f;
  static F floats(const Number* p) { return load_e4m3(p); }
  static float value(Number x) { return half_scalar(e4m3_half(x)); }
  static void codes(F x, Number* out) {
    const F magnitude = abs(x);
    const I bits = as_int(magnitude);
    const I odd = low_bits(shift_right<20>(bits), 1);
    const I normal = shift_right<20>(bits + set1_int(0x7ffff) + odd) - set1_int((127 - 15) << 3);
    const F steps = magnitude + set1(64.0f);  // rounds to multiples of 2^-17, held in the low bits
    const I small = as_int(steps) - as_int(set1(64.0f));
    const I code = as_int(select_less(magnitude, set1(0x1p-14f), as_float(small), as_float(normal)));
    const I negative = shift_right<31>(as_int(x));
    store_int8(reinterpret_cast<int8_t*>(out), code + shift_left<7>(negative));
  }
};

template <class Entry>
constexpr bool kScaled = entry_info(Entry::kId).scale_bytes > 0;

// The scale with which the largest of some numbers becomes `most`, and its inverse or zero.
inline float scale_for(const float* x, int width, float most, float* inverse) {
  F largest = set1(0.0f), wrong = set1(0.0f);
  const auto see = [&](F v) {
    largest = max(abs(v), largest);
    wrong = fma(v, set1(0.0f), wrong);  // NaN from the first number on that is not finite
  };
  int d = 0;
  for (; d + kWidth <= width; d += kWidth) see(load(x + d));
  if (d < width) {
    float tail[kWidth] = {};
    for (int i = 0; d + i < width; ++i) tail[i] = x[d + i];
    see(load(tail));
  }
  *inverse = 0.0f;
  if (reduce_tree(wrong) != 0.0f) return __builtin_nanf("");
  const float scale = reduce_max(largest) / most;
  const float over = 1.0f / scale;
  if (!(over <= 3.4028234e38f)) return 0.0f;
  *inverse = over;
  return scale;
}

// Numbers that share a scale, if there is any, as codes; place(d) is where each lies.
template <class Entry, class Place>
inline void store_numbers(const float* x, int width, typename Entry::Number* numbers, float* scale,
                          const Place& place) {
  float inverse = 1.0f;
  if constexpr (kScaled<Entry>) *scale = scale_for(x, width, Entry::kLargest, &inverse);
  typename Entry::Number codes[kWidth];
  float some[kWidth] = {};
  for (int d = 0; d < width; d += kWidth) {
    const int count = width - d < kWidth ? width - d : kWidth;
    for (int i = 0; i < count; ++i) some[i] = inverse == 0.0f ? 0.0f : x[d + i];
    F v = load(some);
    if constexpr (kScaled<Entry>) v = v * set1(inverse);
    Entry::codes(v, codes);
    for (int i = 0; i < count; ++i) numbers[place(d + i)] = codes[i];
  }
}

// A key or a value of `width` numbers into slot `slot` of its part of a page.
template <class Entry, class Place>
inline void store_part(const float* x, int width, uint8_t* part, int slot, const Place& place) {
  store_numbers<Entry>(x, width, reinterpret_cast<typename Entry::Number*>(part),
                       reinterpret_cast<float*>(part + numbers_bytes(Entry::kId, width)) + slot, place);
}

template <class Entry>
void store_entry(const float* key, const float* value, int key_width, int value_width, int slot,
                 uint8_t* page) {
  if (value == nullptr) {
    auto* numbers = reinterpret_cast<typename Entry::Number*>(page);
    float* scales = reinterpret_cast<float*>(page + numbers_bytes(Entry::kId, key_width)) + slot;
    store_numbers<Entry>(key, value_width, numbers, scales,
                         [=](int d) { return key_place(Entry::kId, slot, d); });
    store_numbers<Entry>(key + value_width, key_width - value_width, numbers, scales + kPageSize,
                         [=](int d) { return key_place(Entry::kId, slot, value_width + d); });
    return;
  }
  store_part<Entry>(key, key_width, page, slot, [=](int d) { return key_place(Entry::kId, slot, d); });
  if (entry_info(Entry::kId).whole && key_width % 2 != 0)
    reinterpret_cast<typename Entry::Number*>(page)[key_place(Entry::kId, slot, key_width)] = 0;
  store_part<Entry>(value, value_width, page + part_bytes(Entry::kId, key_width), slot,
                    [=](int d) { return value_place(Entry::kId, value_width, slot, d); });
}

template <class Entry, class Place>
inline void read_part(const uint8_t* part, int width, int slot, const Place& place, float* y) {
  const auto* numbers = reinterpret_cast<const typename Entry::Number*>(part);
  float scale = 1.0f;
  if constexpr (kScaled<Entry>)
    scale = reinterpret_cast<const float*>(part + numbers_bytes(Entry::kId, width))[slot];
  for (int d = 0; d < width; ++d) {
    y[d] = Entry::value(numbers[place(d)]);
    if constexpr (kScaled<Entry>) y[d] *= scale;
  }
}

template <class Entry>
void read_entry(const uint8_t* page, int key_width, int value_width, int slot, float* key, float* value) {
  read_part<Entry>(page, key_width, slot, [=](int d) { return key_place(Entry::kId, slot, d); }, key);
  if (value == nullptr) {
    if constexpr (kScaled<Entry>) {  // the numbers behind the value have a scale of their own
      const auto* numbers = reinterpret_cast<const typename Entry::Number*>(page);
      const uint8_t* scales = page + numbers_bytes(Entry::kId, key_width);
      for (int d = value_width; d < key_width; ++d)
        key[d] = Entry::value(numbers[key_place(Entry::kId, slot, d)]) *
                 reinterpret_cast<const float*>(scales)[kPageSize + slot];
    }
    return;
  }
  read_part<Entry>(
      page + part_bytes(Entry::kId, key_width), value_width, slot,
      [=](int d) { return value_place(Entry::kId, value_width, slot, d); }, value);
}
