// Softmax cross-entropy with a margin over any number of classes, logits never stored (§3.2, Eq. 6, 8, 9).
//   B samples, N classes, D embedding size, K groups; g [B, D] the embedding times its confidence: g_i^(k) = s_i^(k) / K f_i^(k).
//   a_ij = g_i . v_j, v_j the prototype w_j [N, D] normalised group by group (normalize_group.h) as its tile is read
//   loss_i = -log(e^(a_iy - m) / (e^(a_iy - m) + sum over j != y of e^a_ij)), y the label, m the margin in units of the logits
//   dg_i = sum over j of p_ij v_j, dv_j = sum over i of p_ij g_i, p_ij = dloss_i (softmax_ij - [j = y]); dw_j through the norms
// A label outside [0, N) gives a NaN loss and NaN gradients.
//
// A tile is some classes: their v and their logits stay in the L2 cache. It is multiplied with vectors (margin_softmax_tiles.h), or, for
// bfloat16, on matrix units (margin_softmax_matrix.h). A chunk is a run of tiles. Its length depends on N only, and chunks are reduced in
// order, so results do not depend on the number of threads. Memory: forward reads w once, prefetched one product ahead; backward reads it
// once and writes dw once, with streaming stores if it is large.
#include "cpu/margin_softmax_matrix.h"
#include "cpu/margin_softmax_tiles.h"
#include "cpu/parallel.h"
#include "kernels.h"

namespace turl {
namespace {

constexpr double lowest = -1e30;  // below every logit: the maximum before the first one

// f(tiles) with the kind of tiles that is fastest for these embeddings.
template <class F>
void with_tiles(Context& context, In g, In w, int64_t samples, int64_t classes, int64_t size, int64_t groups, double epsilon, F&& f) {
#if defined(__AVX512BW__)
  if (g.dtype == DType::bfloat16 && matrix_units() != MatrixUnits::none)
    return with_units([&]<class Units>() { f(MatrixTiles<Units>(context, g, w, samples, classes, size, groups, epsilon)); });
#endif
  with_float(g.dtype, [&]<class T>() { f(VectorTiles<T>(context, g, w, samples, classes, size, groups, epsilon)); });
}

// The running maximum and sum of e^(a - maximum) over the classes seen, for each sample: the online softmax.
template <class A> struct Running {
  A *maximum, *sum;  // [columns] each
  void clear(int64_t columns) {
    std::fill(maximum, maximum + columns, A(lowest));
    std::fill(sum, sum + columns, A(0));
  }
  void add(A more_maximum, A more_sum, int64_t i) {
    A top = maximum[i] > more_maximum ? maximum[i] : more_maximum;
    sum[i] = sum[i] * std::exp(maximum[i] - top) + more_sum * std::exp(more_maximum - top);
    maximum[i] = top;
  }
};

}  // namespace

// Saves logsumexp [B] (margin included) for backward; hit [B] is 1 where the label's logit without margin exceeds all others.
void margin_softmax_forward(Context& context, Out loss, Out logsumexp, Out hit, In g, In w, In labels, int64_t samples,
                            int64_t classes, int64_t size, int64_t groups, double margin, double epsilon) {
  with_tiles(context, g, w, samples, classes, size, groups, epsilon, [&](const auto& p) {
    using A = typename std::remove_cvref_t<decltype(p)>::A;
    using L = Lanes<A>;
    using V = typename L::V;
    const int32_t* label = labels.as<int32_t>();
    A *losses = loss.as<A>(), *saved = logsumexp.as<A>(), *hits = hit.as<A>();
    A *seen = call_memory<A>(context, p.chunks * 2 * p.columns), *target = call_memory<A>(context, samples);
    std::fill(target, target + samples, A(NAN));
    parallel_chunks(context, p.chunks, [&](int64_t chunk) {
      A *a = chunk_memory<A>(p.tile * p.rows_t + p.own(false)), *own = a + p.tile * p.rows_t;
      Running<A> others{seen + chunk * 2 * p.columns, seen + (chunk * 2 + 1) * p.columns};
      others.clear(p.columns);
      for (int64_t index = chunk * p.chunk_tiles; index < std::min(p.tiles, (chunk + 1) * p.chunk_tiles); index++) {
        int64_t n = p.count(index);
        p.logits(index, own, a);
        for (int64_t i = 0; i < samples; i++)  // the label's own logit is taken out of the sum over the others
          if (int64_t t = label[i] - index * p.tile; t >= 0 && t < n) {
            target[i] = a[t * p.rows_t + i];
            a[t * p.rows_t + i] = A(-INFINITY);
          }
        for (int64_t i = 0; i < p.columns; i += L::width) {
          V before = load_lanes(others.maximum + i), top = before;
          for (int64_t t = 0; t < n; t++) top = L::max(load_lanes(a + t * p.rows_t + i), top);
          V sum = load_lanes(others.sum + i) * L::exp(before - top);
          for (int64_t t = 0; t < n; t++) sum += L::exp(load_lanes(a + t * p.rows_t + i) - top);
          store_lanes(others.maximum + i, top);
          store_lanes(others.sum + i, sum);
        }
      }
    });
    for (int64_t i = 0; i < samples; i++) {
      A best = A(lowest), sum = A(0);
      Running<A> all{&best, &sum};
      for (int64_t chunk = 0; chunk < p.chunks; chunk++) {
        const A* from = seen + chunk * 2 * p.columns;
        all.add(from[i], from[p.columns + i], 0);
      }
      A own = target[i] - A(margin);
      A above = best + std::log(sum) - own;  // how far all others together are above the label
      // log(1 + e^above) without overflow, exact to the last digits when the loss is small
      losses[i] = above > 0 ? above + std::log1p(std::exp(-above)) : std::log1p(std::exp(above));
      saved[i] = own + losses[i];
      hits[i] = target[i] > best ? A(1) : A(0);
    }
  });
}

void margin_softmax_backward(Context& context, Out dg, Out dw, In dloss, In loss, In logsumexp, In g, In w, In labels,
                             int64_t samples, int64_t classes, int64_t size, int64_t groups, double epsilon) {
  with_tiles(context, g, w, samples, classes, size, groups, epsilon, [&](const auto& p) {
    using A = typename std::remove_cvref_t<decltype(p)>::A;
    using L = Lanes<A>;
    const int32_t* label = labels.as<int32_t>();
    const A *upstream = dloss.as<A>(), *losses = loss.as<A>(), *saved = logsumexp.as<A>();
    // Padding lanes weigh nothing: e^(a - infinity) = 0.
    A* above = call_memory<A>(context, 2 * p.columns);
    A* weight = above + p.columns;
    std::fill(above, above + p.columns, A(INFINITY));
    std::fill(weight, weight + p.columns, A(0));
    std::copy(saved, saved + samples, above);
    std::copy(upstream, upstream + samples, weight);
    A* partial = call_memory<A>(context, p.chunks * p.sums);  // dg of each chunk
    parallel_chunks(context, p.chunks, [&](int64_t chunk) {
      A *a = chunk_memory<A>(p.tile * p.rows_t + p.own(true)), *own = a + p.tile * p.rows_t;
      const int64_t first = chunk * p.chunk_tiles;
      for (int64_t index = first; index < std::min(p.tiles, first + p.chunk_tiles); index++) {
        int64_t n = p.count(index);
        p.logits(index, own, a);
        for (int64_t t = 0; t < n; t++)
          for (int64_t i = 0; i < p.columns; i += L::width) {
            A* at = a + t * p.rows_t + i;
            store_lanes(at, load_lanes(weight + i) * L::exp(load_lanes(at) - load_lanes(above + i)));
          }
        for (int64_t i = 0; i < samples; i++)  // e^-loss - 1 keeps its digits when the softmax is nearly 1
          if (int64_t t = label[i] - index * p.tile; t >= 0 && t < n)
            a[t * p.rows_t + i] = weight[i] * std::expm1(-losses[i]);
        p.gradients(index, own, a, partial + chunk * p.sums, index > first, dw.as<A>());
      }
    });
    add_chunks(context, partial, p.chunks, p.sums);
    with_float(g.dtype, [&]<class T>() {
      for (int64_t i = 0; i < samples; i++)
        for (int64_t e = 0; e < size; e++) dg.as<T>()[i * size + e] = T(partial[i * p.rows_g + e]);
    });
  });
}

}  // namespace turl
