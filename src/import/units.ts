/**
 * The layers of a foreign network as a row of units in the order in which they compute: what a state dict of PyTorch or the graph of an
 * ONNX file says, without names' meaning. `fit.ts` gives them to a network of turl's, unit by unit.
 */
import { readFileSync } from 'node:fs';
import { modelType } from '../export/onnx-format.js';
import { UserError } from '../tensor/errors.js';
import { explainFileError } from '../train/atomic.js';
import type { StateDict, StateTensor } from './torch-file.js';

export type Unit =
  /** Weight [outputs, inputs / groups, h, w] or, of a linear layer, [outputs, inputs]. */
  | {
      kind: 'weight';
      name: string;
      weight: StateTensor;
      bias: StateTensor | undefined;
      /** Whether no batch normalisation reads what it computes: one that did has been folded into it. */
      folded: boolean;
    }
  | {
      kind: 'batch norm';
      name: string;
      gamma: StateTensor;
      beta: StateTensor;
      mean: StateTensor;
      variance: StateTensor;
      epsilon: number;
    }
  | { kind: 'prelu'; name: string; slope: StateTensor };

/** PyTorch's default, and that of InsightFace's networks. */
const torchEpsilon = 1e-5;

/** The state dict's tensors, layer by layer in its order. @param file for messages */
export function unitsOfState(state: StateDict, file: string): Unit[] {
  const layers = new Map<string, Map<string, StateTensor>>();
  for (const [path, tensor] of state) {
    const dot = path.lastIndexOf('.');
    const [name, key] = [path.slice(0, Math.max(dot, 0)), path.slice(dot + 1)];
    if (key === 'num_batches_tracked') continue;
    const layer = layers.get(name) ?? new Map<string, StateTensor>();
    layers.set(name, layer.set(key, tensor));
  }
  return [...layers].map(([name, tensors]): Unit => {
    const [weight, bias, mean, variance] = ['weight', 'bias', 'running_mean', 'running_var'].map((key) =>
      tensors.get(key),
    );
    const ones = (like: StateTensor, value: number) => ({
      shape: like.shape,
      values: new Float32Array(like.values.length).fill(value),
    });
    if (mean && variance)
      return {
        kind: 'batch norm',
        name,
        gamma: weight ?? ones(mean, 1),
        beta: bias ?? ones(mean, 0),
        mean,
        variance,
        epsilon: torchEpsilon,
      };
    if (weight?.shape.length === 1 && !bias) return { kind: 'prelu', name, slope: weight };
    if (weight && (weight.shape.length === 2 || weight.shape.length === 4))
      return { kind: 'weight', name, weight, bias, folded: false };
    throw new UserError(
      `${file}: expected a convolution, linear layer, batch normalisation or PReLU, found ${name} of ${[...tensors].map(([key, { shape }]) => `${key} [${shape.join(', ')}]`).join(', ')}`,
    );
  });
}

/** Where the layers of InsightFace's IResNet and of MobileFaceNet come in the network, for files that are sorted by name. */
const order = [
  'conv1', 'bn1', 'prelu', 'dw_conv1', 'layer1', 'layer2', 'layer3', 'layer4', 'blocks',
  'conv2', 'bn2', 'linear7', 'linear1', 'fc', 'features',
]; // prettier-ignore
const orderInBlock = ['bn1', 'conv1', 'bn2', 'prelu', 'conv2', 'bn3', 'downsample'];

/** The tensors in the order of the network, as far as the names are known. */
export function inNetworkOrder(state: StateDict): StateDict {
  const placeOf = (path: string): number[] =>
    path.split('.').map((part, depth) => {
      if (/^\d+$/.test(part)) return Number(part);
      const at = (depth === 0 ? order : orderInBlock).indexOf(part);
      return at < 0 ? 0 : at;
    });
  const compare = (a: number[], b: number[]): number => {
    for (let i = 0; i < Math.min(a.length, b.length); i++)
      if (a[i] !== b[i]) return (a[i] ?? 0) - (b[i] ?? 0);
    return 0;
  };
  return new Map([...state].sort(([a], [b]) => compare(placeOf(a), placeOf(b))));
}

interface OnnxTensor {
  name?: string;
  dims?: number[];
  data_type?: number;
  float_data?: number[];
  raw_data?: Uint8Array;
}
interface OnnxNode {
  op_type?: string;
  name?: string;
  input?: string[];
  output?: string[];
  attribute?: { name?: string; f?: number; i?: number }[];
}

/** What has no numbers that were learned: the sum of a block, the way from the last map to a row, the embedding brought to length 1. */
const passing = new Set(['ReduceL2', 'LpNormalization', 'Max', 'Div', 'Add', 'Flatten', 'Reshape', 'Dropout', 'Identity', 'Constant', 'Shape', 'Gather', 'Unsqueeze', 'Concat', 'Transpose']); // prettier-ignore

export function unitsOfOnnx(file: string): Unit[] {
  let graph: { initializer?: OnnxTensor[]; node?: OnnxNode[] } | undefined;
  try {
    graph = (
      modelType.toObject(modelType.decode(readFileSync(file)), { longs: Number }) as { graph?: typeof graph }
    ).graph;
  } catch (error) {
    const explained = explainFileError(error, `read ${file}`);
    if (explained instanceof UserError) throw explained;
    throw new UserError(`${file}: expected an ONNX file, found something else or damage`);
  }
  const constants = new Map(graph?.initializer?.map((tensor) => [tensor.name ?? '', tensor]));
  const tensorOf = (name: string | undefined, node: OnnxNode): StateTensor => {
    const {
      dims: shape = [],
      data_type: type,
      float_data: list,
      raw_data: raw,
    } = constants.get(name ?? '') ?? {};
    const size = shape.reduce((product, n) => product * n, 1);
    const values =
      raw && raw.length === 4 * size
        ? new Float32Array(Uint8Array.from(raw).buffer)
        : Float32Array.from(list ?? []);
    if (type !== 1 || values.length !== size)
      throw new UserError(
        `${file}: expected input ${name ?? ''} of ${node.op_type ?? ''} ${node.name ?? ''} to be float32 numbers in the file, found none`,
      );
    return { shape, values };
  };
  const normalised = new Set(
    graph?.node?.flatMap(({ op_type, input }) =>
      op_type === 'BatchNormalization' ? (input?.[0] ?? []) : [],
    ),
  );
  return (graph?.node ?? []).flatMap((node): Unit[] => {
    const { op_type: operator = '', input = [], attribute = [] } = node;
    const name = node.name ?? node.output?.[0] ?? operator;
    const given = (key: string) => attribute.find((one) => one.name === key);
    switch (operator) {
      case 'Conv':
      case 'Gemm': {
        if (operator === 'Gemm' && given('transB')?.i !== 1)
          throw new UserError(`${file}: expected Gemm ${name} to have its weight transposed`);
        const bias = input[2] ? tensorOf(input[2], node) : undefined;
        const folded = !normalised.has(node.output?.[0] ?? '');
        return [{ kind: 'weight', name, weight: tensorOf(input[1], node), bias, folded }];
      }
      case 'BatchNormalization': {
        const [gamma, beta, mean, variance] = [1, 2, 3, 4].map((i) => tensorOf(input[i], node)) as [
          StateTensor,
          StateTensor,
          StateTensor,
          StateTensor,
        ];
        return [
          { kind: 'batch norm', name, gamma, beta, mean, variance, epsilon: given('epsilon')?.f ?? 1e-5 },
        ];
      }
      case 'PRelu':
        return [{ kind: 'prelu', name, slope: tensorOf(input[1], node) }];
      default:
        if (passing.has(operator)) return [];
        throw new UserError(
          `${file}: expected convolutions, batch normalisation, PReLU and a linear layer, as turl's networks have, found ${operator} (${name})`,
        );
    }
  });
}
