// exp and tanh of vectors, from multiplications and additions only, so that every wrapper gives the same
// bits.

constexpr float kMinusInfinity = -__builtin_inff();
constexpr float kRounding = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, held in the low bits

// About 1 ulp; 0 below -104, infinity above 88.8, also for infinite x.
FIVEFOLD_INLINE F exp(F x) {
  const F low = set1(-104.0f), high = set1(88.8f);
  const F inside = select_less(x, low, low, select_less(high, x, high, x));
  const F shifted = fma(inside, set1(1.44269504088896341f), set1(kRounding));
  const F n = shifted - set1(kRounding);
  F r = fma(n, set1(-0.693145751953125f), inside);
  r = fma(n, set1(-1.42860682030941723e-6f), r);
  F p = set1(1.0f / 5040.0f);
  p = fma(p, r, set1(1.0f / 720.0f));
  p = fma(p, r, set1(1.0f / 120.0f));
  p = fma(p, r, set1(1.0f / 24.0f));
  p = fma(p, r, set1(1.0f / 6.0f));
  p = fma(p, r, set1(0.5f));
  p = fma(p * r, r, r) + set1(1.0f);
  // 2^n in two factors, so that n from -150 to 128 works.
  const I whole = as_int(shifted) - as_int(set1(kRounding));
  const I half = shift_right<1>(whole);
  const I bias = set1_int(127);
  const F first = as_float(shift_left<23>(half + bias));
  const F second = as_float(shift_left<23>((whole - half) + bias));
  const F result = (p * first) * second;
  return select_less(x, low, set1(0.0f), select_less(high, x, set1(__builtin_inff()), result));
}

// 2^x for numbers that are not positive, as softmax has them: 1 at zero, within 2e-7 of it elsewhere (the
// polynomial that is nearest in relative error, with a constant of 1), and zero from -127 on (between -127
// and -126 anything below 2^-126).
FIVEFOLD_INLINE F exp2_negative(F x) {
  x = max(set1(-127.0f), x);
  const F shifted = x + set1(kRounding);
  const F r = x - (shifted - set1(kRounding));
  F p = set1(1.32647288e-3f);
  p = fma(p, r, set1(9.67151318e-3f));
  p = fma(p, r, set1(5.55073374e-2f));
  p = fma(p, r, set1(2.40222421e-1f));
  p = fma(p, r, set1(6.93146978e-1f));
  p = fma(p, r, set1(1.0f));
  return as_float(as_int(p) + shift_left<23>(as_int(shifted)));
}

// Odd, about 2 ulp: a polynomial near zero, exp elsewhere.
inline F tanh(F x) {
  const F magnitude = abs(x);
  const F square = x * x;
  F p = set1(-5.70498872745e-3f);
  p = fma(p, square, set1(2.06390887954e-2f));
  p = fma(p, square, set1(-5.37397155531e-2f));
  p = fma(p, square, set1(1.33314422036e-1f));
  p = fma(p, square, set1(-3.33332819422e-1f));
  const F small = fma(p * square, x, x);
  const F doubled = exp(magnitude + magnitude);
  const F large = copy_sign(set1(1.0f) - set1(2.0f) / (doubled + set1(1.0f)), x);
  return select_less(magnitude, set1(0.625f), small, large);
}

// Applies `function` to `count` numbers, the last few through a padded vector.
template <class Function>
inline void map_vector(const float* x, size_t count, float* y, Function function) {
  size_t i = 0;
  for (; i + kWidth <= count; i += kWidth) store(y + i, function(load(x + i)));
  if (i == count) return;
  float tail[kWidth] = {};
  for (size_t j = i; j < count; ++j) tail[j - i] = x[j];
  store(tail, function(load(tail)));
  for (size_t j = i; j < count; ++j) y[j] = tail[j - i];
}

// The same with two inputs.
template <class Function>
inline void map_vectors(const float* a, const float* b, size_t count, float* y, Function function) {
  size_t i = 0;
  for (; i + kWidth <= count; i += kWidth) store(y + i, function(load(a + i), load(b + i)));
  if (i == count) return;
  float first[kWidth] = {}, second[kWidth] = {};
  for (size_t j = i; j < count; ++j) {
    first[j - i] = a[j];
    second[j - i] = b[j];
  }
  store(first, function(load(first), load(second)));
  for (size_t j = i; j < count; ++j) y[j] = first[j - i];
}
