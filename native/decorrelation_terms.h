// The terms of Eq. 11-13 for one logit l of variation s under mask t, target u; shared by the CPU and CUDA kernels.
//   -log p(u) = softplus(l) - u l, for u in [0, 1]: Eq. 11 takes it for every t and s, Eq. 12 for s = t
//   -1/2 log p(0) - 1/2 log p(1) = softplus(l) - l / 2: Eq. 13, for s != t
// softplus(l) = max(l, 0) + log(1 + e^-|l|) neither overflows nor loses small values.
#pragma once
#include <cmath>
#include "types.h"

namespace turl {

TURL_BOTH float exp_of(float x) { return expf(x); }
TURL_BOTH double exp_of(double x) { return exp(x); }
TURL_BOTH float log1p_of(float x) { return log1pf(x); }
TURL_BOTH double log1p_of(double x) { return log1p(x); }

template <class A> TURL_BOTH A softplus_of(A l) {
  return (l > 0 ? l : A(0)) + log1p_of(exp_of(l > 0 ? -l : l));
}
template <class A> TURL_BOTH A sigmoid_of(A l) {
  A e = exp_of(l > 0 ? -l : l);
  return (l > 0 ? A(1) : e) / (1 + e);
}
// NaN and negative targets are unknown.
template <class A> TURL_BOTH bool known_target(A u) { return u >= 0; }

template <class A> struct DecorrelationLosses {
  A discriminator, classification, adversarial;
  TURL_BOTH void add(A l, A u, bool own) {
    A s = softplus_of(l);
    if (known_target(u)) {
      discriminator += s - u * l;
      if (own) classification += s - u * l;
    }
    if (!own) adversarial += s - l / 2;
  }
};

// The gradient of one logit as the discriminator sees it (Eq. 11) and as the embedding does (Eq. 12, 13); upstream[3] are the
// gradients of (L_C, L_cls, L_adv).
template <class A> struct DecorrelationGradient {
  A discriminator, embedding;
  TURL_BOTH DecorrelationGradient(A l, A u, bool own, const A* upstream) {
    A p = sigmoid_of(l);
    A miss = known_target(u) ? p - u : A(0);
    discriminator = upstream[0] * miss;
    embedding = own ? upstream[1] * miss : upstream[2] * (p - A(0.5));
  }
};

}  // namespace turl
