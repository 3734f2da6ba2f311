// The discriminator's loss and the losses it gives the embedding; formulas and arguments as in cpu/decorrelation.cpp. One block a
// sample; the work is small (B K V products of length D / K), so it is kept simple: 2 B D V multiplications, f and weight read once.
#include "cuda/reduce.h"
#include "decorrelation_terms.h"
#include "kernels.h"

namespace turl {
namespace {

constexpr int threads = 128;

struct Sizes {
  int64_t samples;
  int size, groups, variations;
};

template <class T>
__global__ void decorrelation_forward_kernel(float* losses, float* logits, const T* f, const float* weight, const float* bias,
                                             const uint8_t* masks, const float* targets, Sizes n) {
  begin_kernel();
  float* z = dynamic_shared<float>();  // [K, V]
  float* l = z + n.groups * n.variations;
  int length = n.size / n.groups, t0 = threadIdx.x;
  int64_t i = blockIdx.x;
  for (int pair = t0 / 32; pair < n.groups * n.variations; pair += threads / 32) {
    int k = pair / n.variations, s = pair % n.variations;
    float value = warp_dot(f + i * n.size + k * length, weight + s * n.size + k * length, length);
    if (t0 % 32 == 0) z[pair] = value;
  }
  __syncthreads();
  for (int pair = t0; pair < n.variations * n.variations; pair += threads) {
    int t = pair / n.variations, s = pair % n.variations;
    float sum = bias[s];
    for (int k = 0; k < n.groups; k++)
      if (masks[t * n.groups + k]) sum += z[k * n.variations + s];
    l[pair] = sum;
    logits[i * n.variations * n.variations + pair] = sum;
  }
  __syncthreads();
  if (t0 != 0) return;
  DecorrelationLosses<float> total{};
  for (int t = 0; t < n.variations; t++)
    for (int s = 0; s < n.variations; s++) total.add(l[t * n.variations + s], targets[i * n.variations + s], t == s);
  losses[i * 3] = total.discriminator, losses[i * 3 + 1] = total.classification, losses[i * 3 + 2] = total.adversarial;
}

// df, and what f_i adds to the discriminator: to_weight [B, K, V] (times f_i^(k)) and to_bias [B, V].
template <class T>
__global__ void decorrelation_backward_kernel(T* df, float* to_weight, float* to_bias, const float* dlosses, const float* logits,
                                              const float* weight, const uint8_t* masks, const float* targets, Sizes n) {
  begin_kernel();
  int variations = n.variations, pairs = variations * variations;
  float* discriminator = dynamic_shared<float>();  // [V, V] gradients of the logits
  float* embedding = discriminator + pairs;        // [V, V]
  float* to_f = embedding + pairs;                 // [K, V]
  int64_t i = blockIdx.x;
  for (int pair = threadIdx.x; pair < pairs; pair += threads) {
    int t = pair / variations, s = pair % variations;
    DecorrelationGradient<float> d(logits[i * pairs + pair], targets[i * variations + s], t == s, dlosses + i * 3);
    discriminator[pair] = d.discriminator, embedding[pair] = d.embedding;
  }
  __syncthreads();
  for (int pair = threadIdx.x; pair < n.groups * variations; pair += threads) {
    int k = pair / variations, s = pair % variations;
    float a = 0, b = 0;
    for (int t = 0; t < variations; t++)
      if (masks[t * n.groups + k]) a += embedding[t * variations + s], b += discriminator[t * variations + s];
    to_f[pair] = a;
    to_weight[i * n.groups * variations + pair] = b;
  }
  for (int s = threadIdx.x; s < variations; s += threads) {
    float sum = 0;
    for (int t = 0; t < variations; t++) sum += discriminator[t * variations + s];
    to_bias[i * variations + s] = sum;
  }
  __syncthreads();
  int length = n.size / n.groups;
  for (int e = threadIdx.x; e < n.size; e += threads) {
    float sum = 0;
    for (int s = 0; s < variations; s++) sum += to_f[e / length * variations + s] * weight[s * n.size + e];
    df[i * n.size + e] = T(sum);
  }
}

// One element of dweight a thread; the first V threads beyond them make dbias. Samples are added in order.
template <class T>
__global__ void discriminator_gradient_kernel(float* dweight, float* dbias, const float* to_weight, const float* to_bias,
                                              const T* f, Sizes n) {
  begin_kernel();
  int64_t item = int64_t(blockIdx.x) * threads + threadIdx.x, elements = int64_t(n.variations) * n.size;
  float sum = 0;
  if (item < elements) {
    int s = int(item / n.size), e = int(item % n.size), k = e / (n.size / n.groups);
    for (int64_t i = 0; i < n.samples; i++) sum += to_weight[(i * n.groups + k) * n.variations + s] * float(f[i * n.size + e]);
    dweight[item] = sum;
  } else if (item < elements + n.variations) {
    for (int64_t i = 0; i < n.samples; i++) sum += to_bias[i * n.variations + item - elements];
    dbias[item - elements] = sum;
  }
}

}  // namespace

void decorrelation_forward(Context& context, Out losses, Out logits, In f, In weight, In bias, In masks, In targets,
                           int64_t samples, int64_t size, int64_t groups, int64_t variations) {
  with_float(f.dtype, [&]<class T>() {
    Sizes n{samples, int(size), int(groups), int(variations)};
    size_t shared = size_t((groups + variations) * variations) * sizeof(float);
    launch(context, decorrelation_forward_kernel<T>, unsigned(samples), threads, shared, losses.as<float>(), logits.as<float>(),
           f.as<T>(), weight.as<float>(), bias.as<float>(), masks.as<uint8_t>(), targets.as<float>(), n);
  });
}

void decorrelation_backward(Context& context, Out df, Out dweight, Out dbias, In dlosses, In logits, In f, In weight,
                            In masks, In targets, int64_t samples, int64_t size, int64_t groups, int64_t variations) {
  with_float(f.dtype, [&]<class T>() {
    Sizes n{samples, int(size), int(groups), int(variations)};
    auto* to_weight = static_cast<float*>(context.scratch(size_t(samples * groups * variations + 1) * sizeof(float)));
    auto* to_bias = static_cast<float*>(context.scratch(size_t(samples * variations + 1) * sizeof(float)));
    size_t shared = size_t((groups + 2 * variations) * variations) * sizeof(float);
    launch(context, decorrelation_backward_kernel<T>, unsigned(samples), threads, shared, df.as<T>(), to_weight, to_bias,
           dlosses.as<float>(), logits.as<float>(), weight.as<float>(), masks.as<uint8_t>(), targets.as<float>(), n);
    launch(context, discriminator_gradient_kernel<T>, blocks_for(variations * size + variations, threads), threads, 0,
           dweight.as<float>(), dbias.as<float>(), to_weight, to_bias, f.as<T>(), n);
  });
}

}  // namespace turl
