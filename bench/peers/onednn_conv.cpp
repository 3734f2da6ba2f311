// oneDNN's side of conv.mjs: reads one case a line from standard input (batch size channels out kernel stride padding groups) and
// answers with a line of nine numbers: the seconds of forward, backward data and backward weight by its Winograd algorithm, by
// the direct one, and by what it chooses for images as we keep them (NHWC); -1 where it has none. The first two are in the memory
// layouts that it likes best, without the cost of going there. oneDNN 2.6 is the last with Winograd in all three directions. Images
// and weights are float32, or bfloat16 if that is the argument; the weight's gradient is float32.
// build: g++ -O2 -std=c++17 onednn_conv.cpp -ldnnl -o onednn_conv   threads: OMP_NUM_THREADS   usage: ./onednn_conv [bfloat16]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <sstream>
#include <vector>
using namespace dnnl;

namespace {

using Seconds = std::chrono::duration<double>;

struct Case {
  memory::dim batch, size, channels, out, kernel, stride, padding, groups;
};

memory filled(const memory::desc& description, const engine& cpu) {
  memory result(description, cpu);
  const auto value = [](size_t i) { return float((i * 2654435761u >> 8) & 1023) / 1024 - 0.5f; };
  if (description.data_type() == memory::data_type::bf16) {
    uint16_t* values = static_cast<uint16_t*>(result.get_data_handle());
    for (size_t i = 0; i < description.get_size() / 2; i++) {
      const float x = value(i);
      uint32_t bits;
      std::memcpy(&bits, &x, 4);
      values[i] = uint16_t(bits >> 16);
    }
  } else {
    float* values = static_cast<float*>(result.get_data_handle());
    for (size_t i = 0; i < description.get_size() / 4; i++) values[i] = value(i);
  }
  return result;
}

// The three directions; an empty one does not exist.
struct Convolution {
  stream queue;
  std::vector<std::pair<primitive, std::unordered_map<int, memory>>> directions{3};

  Convolution(const Case& c, algorithm how, memory::format_tag images, memory::data_type type, const engine& cpu) : queue(cpu) {
    const memory::dim side = (c.size + 2 * c.padding - c.kernel) / c.stride + 1;
    const memory::dims strides{c.stride, c.stride}, padding{c.padding, c.padding};
    const memory::dims filter = c.groups > 1
                                    ? memory::dims{c.groups, c.out / c.groups, c.channels / c.groups, c.kernel, c.kernel}
                                    : memory::dims{c.out, c.channels, c.kernel, c.kernel};
    const memory::desc x({c.batch, c.channels, c.size, c.size}, type, images), y({c.batch, c.out, side, side}, type, images);
    const memory::desc w(filter, type, memory::format_tag::any), dw(filter, memory::data_type::f32, memory::format_tag::any);
    try {
      const convolution_forward::primitive_desc forward({prop_kind::forward_training, how, x, w, y, strides, padding, padding}, cpu);
      directions[0] = {convolution_forward(forward),
                       {{DNNL_ARG_SRC, filled(forward.src_desc(), cpu)},
                        {DNNL_ARG_WEIGHTS, filled(forward.weights_desc(), cpu)},
                        {DNNL_ARG_DST, filled(forward.dst_desc(), cpu)}}};
      backward(how, x, w, dw, y, strides, padding, cpu, forward);
    } catch (const error&) {
    }
  }

  void backward(algorithm how, const memory::desc& x, const memory::desc& w, const memory::desc& dw, const memory::desc& y,
                const memory::dims& strides, const memory::dims& padding, const engine& cpu,
                const convolution_forward::primitive_desc& forward) {
    try {
      const convolution_backward_data::primitive_desc data({how, x, w, y, strides, padding, padding}, cpu, forward);
      directions[1] = {convolution_backward_data(data),
                       {{DNNL_ARG_DIFF_DST, filled(data.diff_dst_desc(), cpu)},
                        {DNNL_ARG_WEIGHTS, filled(data.weights_desc(), cpu)},
                        {DNNL_ARG_DIFF_SRC, filled(data.diff_src_desc(), cpu)}}};
    } catch (const error&) {
    }
    try {
      const convolution_backward_weights::primitive_desc weights({how, x, dw, y, strides, padding, padding}, cpu, forward);
      directions[2] = {convolution_backward_weights(weights),
                       {{DNNL_ARG_SRC, filled(weights.src_desc(), cpu)},
                        {DNNL_ARG_DIFF_DST, filled(weights.diff_dst_desc(), cpu)},
                        {DNNL_ARG_DIFF_WEIGHTS, filled(weights.diff_weights_desc(), cpu)}}};
    } catch (const error&) {
    }
  }

  // The median of as many runs as 10 ms hold, or of one.
  double seconds(int direction) {
    auto& [run, memories] = directions[size_t(direction)];
    if (!run) return -1;
    std::vector<double> runs;
    for (double all = 0; all < 0.01; all += runs.back()) {
      const auto start = std::chrono::steady_clock::now();
      run.execute(queue, memories);
      queue.wait();
      runs.push_back(Seconds(std::chrono::steady_clock::now() - start).count());
    }
    std::nth_element(runs.begin(), runs.begin() + runs.size() / 2, runs.end());
    return runs[runs.size() / 2];
  }
};

}  // namespace

int main(int count, char** arguments) {
  const auto type = count > 1 && std::strcmp(arguments[1], "bfloat16") == 0 ? memory::data_type::bf16 : memory::data_type::f32;
  const engine cpu(engine::kind::cpu, 0);
  std::string line, kept;
  std::vector<std::unique_ptr<Convolution>> ways;
  while (std::getline(std::cin, line)) {
    if (line != kept) {
      Case c{};
      std::istringstream(line) >> c.batch >> c.size >> c.channels >> c.out >> c.kernel >> c.stride >> c.padding >> c.groups;
      using tag = memory::format_tag;
      ways.clear();
      ways.push_back(std::make_unique<Convolution>(c, algorithm::convolution_winograd, tag::any, type, cpu));
      ways.push_back(std::make_unique<Convolution>(c, algorithm::convolution_direct, tag::any, type, cpu));
      ways.push_back(std::make_unique<Convolution>(c, algorithm::convolution_auto, tag::nhwc, type, cpu));
      kept = line;
    }
    for (auto& way : ways)
      for (int direction = 0; direction < 3; direction++) std::printf("%.9f ", way->seconds(direction));
    std::printf("\n");
    std::fflush(stdout);
  }
}
