/**
 * A trained network as an ONNX graph: images in, embeddings with every sub-embedding of length 1 and confidences out. ONNX has images
 * as NCHW where turl has NHWC: filters are transposed, and the weights that read the last map are put in its order.
 */
import { defaultEpsilon } from '../autograd/ops/group-normalize.js';
import { defaultBatchNormEpsilon } from '../autograd/ops/batch-norm.js';
import type { ConfidenceHead } from '../method/confidence.js';
import type { Backbone } from '../nn/backbone.js';
import { Block } from '../nn/iresnet.js';
import { BatchNorm, BatchNormPReLU, Convolution, Sequential, type Layer } from '../nn/layers.js';
import { Bottleneck } from '../nn/mobilefacenet.js';
import type { Tensor } from '../tensor/tensor.js';
import type { OnnxGraph } from './onnx-format.js';

const values = (t: Tensor) => Float32Array.from(t.toArray());

/** Adds what reads `x` and gives the name of its result; constants are named as in checkpoints. */
function addLayer(graph: OnnxGraph, layer: Layer, x: string, name: string): string {
  if (layer instanceof Sequential)
    return layer.layers.reduce((y, part, i) => addLayer(graph, part, y, `${name}.layers.${i}`), x);
  if (layer instanceof Convolution) return addConvolution(graph, layer, x, name);
  if (layer instanceof BatchNorm) return addBatchNorm(graph, layer, x, name);
  if (layer instanceof BatchNormPReLU) {
    const z = addBatchNorm(graph, layer.normalise, x, `${name}.normalise`);
    const slope = graph.constant(`${name}.slope`, values(layer.slope), [layer.slope.size, 1, 1]);
    return graph.node(name, 'PRelu', [z, slope]);
  }
  if (layer instanceof Block) {
    const inner = addLayer(graph, layer.residual, x, `${name}.residual`);
    const y = addBatchNorm(graph, layer.normalise, inner, `${name}.normalise`);
    const aside = layer.shortcut ? addLayer(graph, layer.shortcut, x, `${name}.shortcut`) : x;
    return graph.node(name, 'Add', [y, aside]);
  }
  if (layer instanceof Bottleneck) {
    const y = addLayer(graph, layer.path, x, `${name}.path`);
    return layer.residual ? graph.node(name, 'Add', [y, x]) : y;
  }
  throw new Error(`no ONNX for ${layer.constructor.name}`);
}

/** Weight [outputs, h, w, inputs / groups] to ONNX's [outputs, inputs / groups, h, w]. */
function addConvolution(graph: OnnxGraph, layer: Convolution, x: string, name: string): string {
  const [outputs, height, width, inputs] = [0, 1, 2, 3].map((axis) => layer.weight.dim(axis)) as [
    number,
    number,
    number,
    number,
  ];
  const from = values(layer.weight);
  const to = new Float32Array(from.length);
  let at = 0;
  for (let o = 0; o < outputs; o++)
    for (let y = 0; y < height; y++)
      for (let z = 0; z < width; z++)
        for (let c = 0; c < inputs; c++)
          to[((o * inputs + c) * height + y) * width + z] = from[at++] as number;
  const { size, stride = 1, padding = (size - 1) / 2, groups = 1 } = layer.options;
  const weight = graph.constant(`${name}.weight`, to, [outputs, inputs, height, width]);
  return graph.node(name, 'Conv', [x, weight], {
    kernel_shape: [height, width],
    strides: [stride, stride],
    pads: [padding, padding, padding, padding],
    group: groups,
  });
}

function addBatchNorm(graph: OnnxGraph, layer: BatchNorm, x: string, name: string): string {
  const constants = (['gamma', 'beta', 'mean', 'variance'] as const).map((key) =>
    graph.constant(`${name}.${key}`, values(layer[key]), [layer[key].size]),
  );
  const { epsilon = defaultBatchNormEpsilon } = layer.options;
  return graph.node(name, 'BatchNormalization', [x, ...constants], { epsilon: { float: epsilon } });
}

/** Channels of what the last layer of the body gives: it ends in batch normalisation. */
function channelsOf({ body }: Backbone): number {
  const gammas = body.flatMap((layer) => [...layer.state()].filter(([name]) => name.endsWith('gamma')));
  return gammas.at(-1)?.[1].size ?? 1;
}

/** x W^T + b. Weight [outputs, F], with F in the order rows, columns, channels here and channels, rows, columns there. */
function addLinear(
  graph: OnnxGraph,
  { weight, bias }: { weight: Tensor; bias: Tensor | undefined },
  x: string,
  name: string,
  channels: number,
): string {
  const [from, length] = [values(weight), weight.dim(1)];
  const positions = length / channels;
  const to = new Float32Array(from.length);
  let at = 0;
  for (let row = 0; row < from.length; row += length)
    for (let p = 0; p < positions; p++)
      for (let c = 0; c < channels; c++) to[row + c * positions + p] = from[at++] as number;
  const w = graph.constant(`${name}.weight`, to, weight.shape);
  const b = bias ? [graph.constant(`${name}.bias`, values(bias), [bias.size])] : [];
  return graph.node(name, 'Gemm', [x, w, ...b], { transB: 1 });
}

/** @param images name of float32 images [batch, 3, size, size] as the network takes them; writes the output `embedding`. */
export function addNetwork(
  graph: OnnxGraph,
  backbone: Backbone,
  groups: number,
  images: string,
): { embedding: string; features: string } {
  const map = backbone.body.reduce((x, layer, i) => addLayer(graph, layer, x, `network.body.${i}`), images);
  const features = graph.node('network.features', 'Flatten', [map], { axis: 1 });
  const y = addLinear(graph, backbone.embed, features, 'network.embed', channelsOf(backbone));
  const normalised = addBatchNorm(graph, backbone.normalise, y, 'network.normalise');
  return { embedding: addGroupNormalise(graph, normalised, backbone.embeddingSize, groups), features };
}

/** Each of the K groups divided by its length, as `groupNormalize` does it. */
function addGroupNormalise(graph: OnnxGraph, x: string, size: number, groups: number): string {
  const shape = graph.constant('groups.shape', [-1, groups, size / groups], [3]);
  const grouped = graph.node('groups', 'Reshape', [x, shape]);
  const norm = graph.node('groups.norm', 'ReduceL2', [grouped], { axes: [2], keepdims: 1 });
  const epsilon = graph.constant('groups.epsilon', Float32Array.of(defaultEpsilon), [1]);
  const floor = graph.node('groups.length', 'Max', [norm, epsilon]);
  const unit = graph.node('groups.unit', 'Div', [grouped, floor]);
  const flat = graph.constant('embedding.shape', [-1, size], [2]);
  return graph.node('embedding', 'Reshape', [unit, flat]);
}

/** Writes the output `confidence`. */
export function addConfidence(
  graph: OnnxGraph,
  head: ConfidenceHead,
  backbone: Backbone,
  features: string,
): string {
  const y = addLinear(graph, head, features, 'loss.confidence', channelsOf(backbone));
  const positive = graph.node(
    'loss.confidence.positive',
    head.options.activation === 'exp' ? 'Exp' : 'Softplus',
    [y],
  );
  const least = graph.constant('loss.confidence.minimum', Float32Array.of(head.minimum), [1]);
  return graph.node('confidence', 'Add', [positive, least]);
}
