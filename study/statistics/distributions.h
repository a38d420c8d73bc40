#pragma once
// The distributions that small samples need: normal, Student's t, binomial. Accurate to about 1e-12, and 1e-9 next to t = 0.

#include <cstdint>

namespace eq {

// I_x(a, b), the regularised incomplete beta function, by Lentz's evaluation of its continued fraction (DLMF 8.17.22).
// a, b > 0, 0 <= x <= 1; throws UsageError otherwise.
double incomplete_beta(double a, double b, double x);

double normal_upper_tail(double z);      // P(Z > z)
double normal_quantile(double p);        // 0 < p < 1; throws UsageError otherwise

// `degrees` of freedom, > 0, need not be whole.
double student_upper_tail(double t, double degrees);  // P(T > t)
double student_quantile(double p, double degrees);    // 0 < p < 1; throws UsageError otherwise

// The normal score as improbable as this t: what makes values from few batches comparable with |z| < 4.
double normal_score(double t, double degrees);

// Two-sided exact sign test: the probability, if either sign were equally likely, of a split at least this uneven.
double sign_test(int64_t wins, int64_t losses);

}  // namespace eq
