// Softmax cross-entropy with a margin over any number of classes; the formulas and arguments are those of cpu/margin_softmax.cpp.
//   B samples, N classes, D size, K groups; a_ij = g_i . v_j, v_j = w_j with each group divided by its norm.
// Forward: a block computes one tile of logits after the other for a run of class tiles, and keeps the running maximum and the sum of e^a for
// its samples; the runs are merged in order.
// Backward, one slice of the classes at a time: p [B, slice] = dloss (softmax - onehot) in scratch memory, dv = p^T g, dg += p v; at the end
// dw from dv through the norms. Slices limit the scratch memory to 32 MiB for p and as much for v, whatever N is. The inverse norms take
// 4 N K bytes, the runs at most B N / 8.
// The kernels are in margin_softmax_matrix.h (bfloat16 embeddings, on matrix units) and margin_softmax_plain.h (all else).
#include <algorithm>
#include "cuda/margin_softmax_matrix.h"
#include "cuda/margin_softmax_plain.h"
#include "kernels.h"

namespace turl {
namespace {

template <class T> T* array(Context& context, int64_t elements) {
  return static_cast<T*>(context.scratch(size_t(std::max<int64_t>(elements, 1)) * sizeof(T)));
}
Split split_array(Context& context, int64_t elements) {
  return {array<bfloat16>(context, elements), array<bfloat16>(context, elements)};
}

// The inverse norms are still missing: each_slice() computes them slice by slice, normalise() for all classes at once.
Problem problem_of(Context& context, const float* w, int64_t samples, int64_t classes, int64_t size, int64_t groups, double epsilon) {
  return {w, array<float>(context, classes * groups), samples, classes, int(size), int(groups), int(size / groups), float(epsilon)};
}
void normalise(Context& context, const Problem& p) {
  const auto run = [&]<int width>(Team<width> team) {
    launch(context, inverse_norm_kernel<width>, team.blocks(p.classes * p.groups), team_threads, 0, p, team);
  };
  with_team(p.length, run, p.w);
}

unsigned tiles_of(int64_t n, int side = tile_side) { return unsigned(ceil_div<int64_t>(n, side)); }

// How many classes a slice has, a multiple of a tile's side, such that neither p nor v has more than slice_elements elements.
int64_t slice_of(const Problem& p, int64_t per_class, int side = tile_side) {
  const int64_t wanted = slice_elements / std::max<int64_t>(per_class, 1) / side * side;
  return std::max<int64_t>(side, std::min(wanted, int64_t(tiles_of(p.classes, side)) * side));
}

bool on_matrix_units(const Problem& p, In g) {
  return g.dtype == DType::bfloat16 && packs<bfloat16>(p.size, g.as<bfloat16>(), p.w) && p.samples < (1 << 24);
}

// Calls f with the matrix units to use.
template <class F> void with_units(const Context& context, F f) {
  if (has_warpgroups(context)) f.template operator()<Hopper<128>>();
  else f.template operator()<Ampere>();
}

// Calls body(slice) for one slice of the classes after the other, normalised and split (split.h).
template <class F> void each_slice(Context& context, const Problem& p, int64_t classes, F body) {
  const Split v = split_array(context, std::min(classes, p.classes) * p.size);
  for (int64_t first = 0; first < p.classes; first += classes) {
    const Slice slice{v, first, int(std::min(classes, p.classes - first))};
    const auto run = [&]<int width>(Team<width> team) {
      launch(context, split_prototypes_kernel<width>, team.blocks(int64_t(slice.count) * p.groups), team_threads, 0, slice, p, team);
    };
    with_team(p.length, run, p.w, slice.v.high, slice.v.low);
    body(slice);
  }
}

struct Partial {
  float *maximum, *sum, *target;
  int64_t runs;
};
Partial partial_results(Context& context, const Problem& p, int64_t runs) {
  const Partial partial{array<float>(context, runs * p.samples), array<float>(context, runs * p.samples),
                        array<float>(context, p.samples), runs};
  launch(context, fill_nan_kernel, blocks_for(p.samples, 256), 256, 0, partial.target, p.samples);
  return partial;
}

template <class Units> Partial forward_matrix(Context& context, const Problem& p, const bfloat16* g, const int32_t* labels) {
  const Partial partial = partial_results(context, p, tiles_of(p.classes, Units::columns));
  each_slice(context, p, slice_of(p, p.size, Units::columns), [&](const Slice& slice) {
    const dim3 grid{tiles_of(slice.count, Units::columns), tiles_of(p.samples, Units::rows), 1};
    launch(context, margin_softmax_forward_matrix_kernel<Units>, grid, Units::threads, Units::shared_bytes, partial.maximum,
           partial.sum, partial.target, g, slice, p, labels);
  });
  return partial;
}

template <class T> Partial forward_plain(Context& context, const Problem& p, const T* g, const int32_t* labels) {
  normalise(context, p);
  const int64_t run_tiles = std::max<int64_t>(1, ceil_div<int64_t>(tiles_of(p.classes), most_runs));
  const Partial partial = partial_results(context, p, ceil_div<int64_t>(tiles_of(p.classes), run_tiles));
  launch(context, margin_softmax_forward_kernel<T>, dim3{unsigned(partial.runs), tiles_of(p.samples), 1}, tile_threads, 0,
         partial.maximum, partial.sum, partial.target, g, p, labels, run_tiles);
  return partial;
}

struct Given {
  const int32_t* labels;
  const float *dloss, *loss, *logsumexp;
};

// Writes dv to dw, and the parts of dg to partial.
template <class Units>
void backward_matrix(Context& context, float* dw, float* partial, const Problem& p, const bfloat16* g, const Given& given) {
  const int64_t classes = slice_of(p, std::max<int64_t>(p.samples, p.size), Units::columns);
  const Split gradient = split_array(context, p.samples * classes);
  each_slice(context, p, classes, [&](const Slice& slice) {
    const int stride = ceil_div(slice.count, 8) * 8;
    const unsigned sample_tiles = tiles_of(p.samples, Units::rows), element_tiles = tiles_of(p.size, Units::columns);
    using Narrow = typename Units::Narrow;
    launch(context, softmax_gradient_matrix_kernel<Narrow>,
           dim3{tiles_of(slice.count, Narrow::columns), tiles_of(p.samples, Narrow::rows), 1}, Narrow::threads,
           Narrow::shared_bytes, gradient, g, slice, p, given.labels, given.dloss, given.loss, given.logsumexp, stride);
    launch(context, prototype_gradient_matrix_kernel<Units>, dim3{tiles_of(slice.count, Units::rows), element_tiles, 1},
           Units::threads, Units::shared_bytes, dw + slice.first * p.size, gradient, g, p.samples, slice.count, stride, p.size);
    launch(context, embedding_gradient_matrix_kernel<Units>, dim3{element_tiles, sample_tiles, splits}, Units::threads,
           Units::shared_bytes, partial, gradient, slice, p.samples, stride, p.size, slice.first > 0);
  });
}

template <class T>
void backward_plain(Context& context, float* dw, float* partial, const Problem& p, const T* g, const Given& given) {
  normalise(context, p);
  const int64_t slice = slice_of(p, p.samples);
  auto* gradient = array<float>(context, p.samples * std::min(slice, p.classes));
  for (int64_t first = 0; first < p.classes; first += slice) {
    const int64_t count = std::min(slice, p.classes - first);
    launch(context, softmax_gradient_kernel<T>, dim3{tiles_of(count), tiles_of(p.samples), 1}, tile_threads, 0, gradient, g, p,
           given.labels, given.dloss, given.loss, given.logsumexp, first, count);
    launch(context, prototype_gradient_kernel<T>, dim3{tiles_of(count), tiles_of(p.size), 1}, tile_threads, 0, dw + first * p.size,
           gradient, g, p.samples, count, p.size);
    launch(context, embedding_gradient_kernel, dim3{tiles_of(p.size), tiles_of(p.samples), splits}, tile_threads, 0, partial,
           gradient, p, first, count, first > 0);
  }
}

}  // namespace

void margin_softmax_forward(Context& context, Out loss, Out logsumexp, Out hit, In g, In w, In labels, int64_t samples,
                            int64_t classes, int64_t size, int64_t groups, double margin, double epsilon) {
  const Problem p = problem_of(context, w.as<float>(), samples, classes, size, groups, epsilon);
  Partial partial;
  if (on_matrix_units(p, g))
    with_units(context, [&]<class Units>() {
      partial = forward_matrix<Units>(context, p, g.as<bfloat16>(), labels.as<int32_t>());
    });
  else
    with_float(g.dtype, [&]<class T>() { partial = forward_plain(context, p, g.as<T>(), labels.as<int32_t>()); });
  launch(context, margin_softmax_merge_kernel, blocks_for(samples, warps), warps * 32, 0, loss.as<float>(), logsumexp.as<float>(),
         hit.as<float>(), partial.maximum, partial.sum, partial.target, samples, partial.runs, margin);
}

void margin_softmax_backward(Context& context, Out dg, Out dw, In dloss, In loss, In logsumexp, In g, In w, In labels,
                             int64_t samples, int64_t classes, int64_t size, int64_t groups, double epsilon) {
  const Problem p = problem_of(context, w.as<float>(), samples, classes, size, groups, epsilon);
  const Given given{labels.as<int32_t>(), dloss.as<float>(), loss.as<float>(), logsumexp.as<float>()};
  auto* partial = array<float>(context, splits * samples * size);
  with_float(g.dtype, [&]<class T>() {
    if (on_matrix_units(p, g))
      with_units(context, [&]<class Units>() {
        backward_matrix<Units>(context, dw.as<float>(), partial, p, g.as<bfloat16>(), given);
      });
    else backward_plain(context, dw.as<float>(), partial, p, g.as<T>(), given);
    launch(context, add_splits_kernel<T>, blocks_for(samples * size, 256), 256, 0, dg.as<T>(), partial, samples * size);
  });
  const auto run = [&]<int width>(Team<width> team) {
    launch(context, project_kernel<width>, team.blocks(classes * groups), team_threads, 0, dw.as<float>(), p, team);
  };
  with_team(p.length, run, p.w, dw.as<float>());
}

}  // namespace turl
