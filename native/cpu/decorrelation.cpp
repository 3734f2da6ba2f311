// The discriminator's loss and the losses it gives the embedding, all from the same logits (§3.3, Eq. 11-13).
//   B samples, D embedding size, K groups of D / K, V variations. f [B, D], weight [V, D], bias [V], masks [V, K] of 0 and 1,
//   targets u [B, V] in [0, 1]; a NaN or negative target is unknown: Eq. 11 and 12 leave it out, Eq. 13 needs none.
//   z[i, k, s] = f_i^(k) . weight_s^(k);   logit[i, t, s] = sum over k of masks[t, k] z[i, k, s] + bias[s]
//   losses[i] = (L_C, L_cls, L_adv): sums over masks t and variations s of the terms in decorrelation_terms.h
// df comes from L_cls and L_adv with the discriminator fixed, dweight and dbias from L_C with f fixed.
#include "decorrelation_terms.h"
#include "cpu/lanes.h"
#include "cpu/parallel.h"
#include "kernels.h"

namespace turl {

void decorrelation_forward(Context& context, Out losses, Out logits, In f, In weight, In bias, In masks, In targets,
                           int64_t samples, int64_t size, int64_t groups, int64_t variations) {
  with_float(f.dtype, [&]<class T>() {
    using A = acc_t<T>;
    const T* embedding = f.as<T>();
    const A *c = weight.as<A>(), *offset = bias.as<A>(), *u = targets.as<A>();
    const uint8_t* mask = masks.as<uint8_t>();
    A *loss = losses.as<A>(), *logit = logits.as<A>();
    int64_t length = size / groups;
    parallel_for(context, samples, 4, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) {
        A* l = logit + i * variations * variations;
        for (int64_t t = 0; t < variations; t++) std::copy(offset, offset + variations, l + t * variations);
        for (int64_t k = 0; k < groups; k++)
          for (int64_t s = 0; s < variations; s++) {
            A z = dot(embedding + i * size + k * length, c + s * size + k * length, length);
            for (int64_t t = 0; t < variations; t++)
              if (mask[t * groups + k]) l[t * variations + s] += z;
          }
        DecorrelationLosses<A> total{};
        for (int64_t t = 0; t < variations; t++)
          for (int64_t s = 0; s < variations; s++)
            total.add(l[t * variations + s], u[i * variations + s], t == s);
        loss[i * 3] = total.discriminator, loss[i * 3 + 1] = total.classification, loss[i * 3 + 2] = total.adversarial;
      }
    });
  });
}

void decorrelation_backward(Context& context, Out df, Out dweight, Out dbias, In dlosses, In logits, In f, In weight,
                            In masks, In targets, int64_t samples, int64_t size, int64_t groups, int64_t variations) {
  with_float(f.dtype, [&]<class T>() {
    using A = acc_t<T>;
    using L = Lanes<A>;
    const T* embedding = f.as<T>();
    const A *c = weight.as<A>(), *u = targets.as<A>(), *upstream = dlosses.as<A>(), *logit = logits.as<A>();
    const uint8_t* mask = masks.as<uint8_t>();
    T* df_out = df.as<T>();
    A *dweight_out = dweight.as<A>(), *dbias_out = dbias.as<A>();
    int64_t length = size / groups;
    // What weight_s^(k) adds to df_i^(k), and what f_i^(k) adds to dweight_s^(k): [B, K, V] each.
    int64_t elements = std::max<int64_t>(samples * groups * variations, 1);
    A* to_f = static_cast<A*>(context.scratch(size_t(elements) * sizeof(A)));
    A* to_weight = static_cast<A*>(context.scratch(size_t(elements) * sizeof(A)));
    std::fill(to_f, to_f + elements, A(0));
    std::fill(to_weight, to_weight + elements, A(0));
    parallel_for(context, samples, 4, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) {
        for (int64_t t = 0; t < variations; t++)
          for (int64_t s = 0; s < variations; s++) {
            DecorrelationGradient<A> d(logit[(i * variations + t) * variations + s], u[i * variations + s], t == s,
                                       upstream + i * 3);
            for (int64_t k = 0; k < groups; k++)
              if (mask[t * groups + k]) {
                to_f[(i * groups + k) * variations + s] += d.embedding;
                to_weight[(i * groups + k) * variations + s] += d.discriminator;
              }
          }
        for (int64_t k = 0; k < groups; k++)
          for (int64_t e = k * length; e < (k + 1) * length; e++) {
            A total = 0;
            for (int64_t s = 0; s < variations; s++) total += to_f[(i * groups + k) * variations + s] * c[s * size + e];
            df_out[i * size + e] = T(total);
          }
      }
    });
    parallel_for(context, variations * groups, 4, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        int64_t s = row / groups, k = row % groups;
        A* to = dweight_out + s * size + k * length;
        std::fill(to, to + length, A(0));
        for (int64_t i = 0; i < samples; i++) {
          A scale = to_weight[(i * groups + k) * variations + s];
          const T* from = embedding + i * size + k * length;
          int64_t e = 0;
          for (; e + L::width <= length; e += L::width)
            store_lanes(to + e, L::fma(L::splat(scale), load_lanes(from + e), load_lanes(to + e)));
          for (; e < length; e++) to[e] += scale * A(from[e]);
        }
      }
    });
    for (int64_t s = 0; s < variations; s++) {
      A total = 0;
      for (int64_t i = 0; i < samples; i++)
        for (int64_t t = 0; t < variations; t++)
          total += DecorrelationGradient<A>(logit[(i * variations + t) * variations + s], u[i * variations + s], t == s,
                                            upstream + i * 3)
                       .discriminator;
      dbias_out[s] = total;
    }
  });
}

}  // namespace turl
