// Softmax cross-entropy with a margin over any number of classes, logits never stored (METHOD.md section 3, Eq. 6, 8, 9).
//   B samples, N classes, D embedding size, K groups; g [B, D] the embedding times its confidence: g_i^(k) = s_i^(k) / K f_i^(k).
//   a_ij = g_i . v_j, v_j the prototype w_j [N, D] normalised group by group (normalize_group.h) as its tile is read
//   loss_i = -log(e^(a_iy - m) / (e^(a_iy - m) + sum over j != y of e^a_ij)), y the label, m the margin in units of the logits
//   dg_i = sum over j of p_ij v_j, dv_j = sum over i of p_ij g_i, p_ij = dloss_i (softmax_ij - [j = y]); dw_j through the norms
// A label outside [0, N) gives a NaN loss and NaN gradients.
//
// Tiles of 48 classes: a tile of v and its logits, transposed so that lanes run over samples, stay in the L2 cache. A chunk is a
// run of tiles whose number depends on N only; chunks are reduced in order, so the number of threads does not matter. Traffic:
// forward reads w once; backward reads it once and writes dw once, a product's time before they are used (NextLines).
#include "cpu/normalize_group.h"
#include "cpu/parallel.h"
#include "cpu/tile_product.h"
#include "kernels.h"

namespace turl {
namespace {

constexpr int64_t tile = 48;        // classes; a multiple of the 6 or 12 rows of TileProduct
constexpr double lowest = -1e30;    // below every logit: the maximum of nothing
constexpr int64_t most_chunks = 32;

int64_t padded(int64_t n) { return (n + 15) / 16 * 16; }

// What forward and backward share: g in both layouts, and a tile of normalised prototypes with its logits.
template <class T> struct Tiles {
  using A = acc_t<T>;
  using L = Lanes<A>;
  using V = typename L::V;
  int64_t samples, classes, size, groups;
  A epsilon;
  const A* w;
  int64_t columns, rows_g, rows_t;      // samples padded to vectors; leading dimensions of [., D] and [., B] arrays
  A *g, *transposed;                    // [B, rows_g], [D, rows_t]
  int64_t tiles, chunk_tiles, chunks;

  Tiles(Context& context, In g_in, In w_in, int64_t samples, int64_t classes, int64_t size, int64_t groups, double epsilon)
      : samples(samples), classes(classes), size(size), groups(groups), epsilon(A(epsilon)), w(w_in.as<A>()) {
    columns = padded(samples), rows_g = padded(size) + 16, rows_t = columns + 16;
    tiles = (classes + tile - 1) / tile;
    chunk_tiles = std::max<int64_t>(8, (tiles + most_chunks - 1) / most_chunks);
    chunks = (tiles + chunk_tiles - 1) / chunk_tiles;
    g = array(context, samples * rows_g), transposed = array(context, size * rows_t);
    const T* in = g_in.as<T>();
    std::fill(g, g + samples * rows_g, A(0));
    std::fill(transposed, transposed + size * rows_t, A(0));
    for (int64_t i = 0; i < samples; i++)
      for (int64_t e = 0; e < size; e++) g[i * rows_g + e] = transposed[e * rows_t + i] = A(in[i * size + e]);
  }

  static A* array(Context& context, int64_t elements) {
    return static_cast<A*>(context.scratch(size_t(std::max<int64_t>(elements, 1)) * sizeof(A)));
  }
  int64_t count(int64_t index) const { return std::clamp<int64_t>(classes - index * tile, 0, tile); }

  // The rows of tile `index` of w or dw.
  NextLines rows(const A* of, int64_t index) const { return NextLines::of(of + index * tile * size, count(index) * size); }

  // v [tile, rows_g] and, when wanted, the inverse norms [tile, groups]; then the logits [tile, rows_t].
  void logits(int64_t index, A* v, A* inverse, A* a, NextLines next) const {
    int64_t length = size / groups, n = count(index);
    for (int64_t t = 0; t < n; t++) {
      const A* from = w + (index * tile + t) * size;
      A* to = v + t * rows_g;
      for (int64_t k = 0; k < groups; k++) {
        A scale = inverse_norm(from + k * length, length, epsilon);
        if (inverse) inverse[t * groups + k] = scale;
        scale_group(to + k * length, from + k * length, scale, length);
      }
      std::fill(to + size, to + padded(size), A(0));
    }
    TileProduct<A>{a, rows_t, v, rows_g, 1, transposed, rows_t, size, false}.run(n, columns, next);
  }
};

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
  with_float(g.dtype, [&]<class T>() {
    using P = Tiles<T>;
    using A = typename P::A;
    using L = typename P::L;
    using V = typename P::V;
    P p(context, g, w, samples, classes, size, groups, epsilon);
    const int32_t* label = labels.as<int32_t>();
    A *losses = loss.as<A>(), *saved = logsumexp.as<A>(), *hits = hit.as<A>();
    int64_t stride = tile * (p.rows_g + p.rows_t) + 2 * p.columns;
    A* work = P::array(context, p.chunks * stride);
    A* target = P::array(context, samples);
    std::fill(target, target + samples, A(NAN));
    parallel_chunks(context, p.chunks, [&](int64_t chunk) {
      A* v = work + chunk * stride;
      A* a = v + tile * p.rows_g;
      Running<A> others{a + tile * p.rows_t, a + tile * p.rows_t + p.columns};
      others.clear(p.columns);
      for (int64_t index = chunk * p.chunk_tiles; index < std::min(p.tiles, (chunk + 1) * p.chunk_tiles); index++) {
        int64_t n = p.count(index);
        p.logits(index, v, nullptr, a, p.rows(p.w, index + 1));
        for (int64_t i = 0; i < samples; i++)  // the label's own logit is taken out of the sum over the others
          if (int64_t t = label[i] - index * tile; t >= 0 && t < n) {
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
        const A* from = work + chunk * stride + tile * (p.rows_g + p.rows_t);
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
  with_float(g.dtype, [&]<class T>() {
    using P = Tiles<T>;
    using A = typename P::A;
    using L = typename P::L;
    P p(context, g, w, samples, classes, size, groups, epsilon);
    const int32_t* label = labels.as<int32_t>();
    const A *upstream = dloss.as<A>(), *losses = loss.as<A>(), *saved = logsumexp.as<A>();
    A* out = dw.as<A>();
    // Padding lanes weigh nothing: e^(a - infinity) = 0.
    A* above = P::array(context, 2 * p.columns);
    A* weight = above + p.columns;
    std::fill(above, above + p.columns, A(INFINITY));
    std::fill(weight, weight + p.columns, A(0));
    std::copy(saved, saved + samples, above);
    std::copy(upstream, upstream + samples, weight);
    int64_t stride = tile * (2 * p.rows_g + p.rows_t + groups);
    A* work = P::array(context, p.chunks * stride);
    A* partial = P::array(context, p.chunks * samples * p.rows_g);  // dg of each chunk
    parallel_chunks(context, p.chunks, [&](int64_t chunk) {
      A* v = work + chunk * stride;
      A* dv = v + tile * p.rows_g;
      A* a = dv + tile * p.rows_g;
      A* inverse = a + tile * p.rows_t;
      A* sum = partial + chunk * samples * p.rows_g;
      int64_t length = size / groups, first = chunk * p.chunk_tiles;
      for (int64_t index = first; index < std::min(p.tiles, first + p.chunk_tiles); index++) {
        int64_t n = p.count(index);
        p.logits(index, v, inverse, a, p.rows(out, index));
        for (int64_t t = 0; t < n; t++)
          for (int64_t i = 0; i < p.columns; i += L::width) {
            A* at = a + t * p.rows_t + i;
            store_lanes(at, load_lanes(weight + i) * L::exp(load_lanes(at) - load_lanes(above + i)));
          }
        for (int64_t i = 0; i < samples; i++)  // e^-loss - 1 keeps its digits when the softmax is nearly 1
          if (int64_t t = label[i] - index * tile; t >= 0 && t < n)
            a[t * p.rows_t + i] = weight[i] * std::expm1(-losses[i]);
        TileProduct<A>{dv, p.rows_g, a, p.rows_t, 1, p.g, p.rows_g, samples, false}.run(n, padded(size));
        TileProduct<A>{sum, p.rows_g, a, 1, p.rows_t, v, p.rows_g, n, index > first}
            .run(samples, padded(size), p.rows(p.w, index + 1));
        for (int64_t t = 0; t < n; t++)
          for (int64_t k = 0; k < groups; k++) {
            const A *vk = v + t * p.rows_g + k * length, *dk = dv + t * p.rows_g + k * length;
            A scale = inverse[t * groups + k];
            A along = scale * p.epsilon < 1 ? dot(vk, dk, length) : A(0);
            project_group(out + (index * tile + t) * size + k * length, dk, vk, scale, along, length);
          }
      }
    });
    add_chunks(context, partial, p.chunks, samples * p.rows_g);
    for (int64_t i = 0; i < samples; i++)
      for (int64_t e = 0; e < size; e++) dg.as<T>()[i * size + e] = T(partial[i * p.rows_g + e]);
  });
}

}  // namespace turl
