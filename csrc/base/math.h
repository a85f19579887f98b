// exp, log, sin and cos in double precision from additions and multiplications alone, so that tables and
// log-probabilities are the same on every machine and with every C library.
#pragma once

namespace tinyzh::math {

double exp(double x);                       // relative error below 1e-15 for |x| < 700; 0 or infinity beyond
double log(double x);                       // x > 0; relative error below 1e-15
double pow(double base, double exponent);   // base > 0: exp(exponent * log(base))
void sin_cos(double x, double& sine, double& cosine);  // |x| < 2^21; absolute error below 1e-15

}  // namespace tinyzh::math
