/**
 * Weights of other programs as a run of turl's, to evaluate, embed, export or start training from (`from`): InsightFace's IResNet and
 * MobileFaceNet as PyTorch (.pt, .pth, .ckpt), safetensors or ONNX.
 */
import { extname } from 'node:path';
import { configFrom } from '../config/index.js';
import { UserError } from '../tensor/errors.js';
import { saveCheckpoint } from '../train/checkpoint.js';
import { Experiment } from '../train/experiment.js';
import { RunDirectory } from '../train/run-directory.js';
import { readForeignTensors } from '../train/safetensors.js';
import { fitUnits } from './fit.js';
import { readFloat, readTorchFile, type StateDict } from './torch-file.js';
import { inNetworkOrder, unitsOfOnnx, unitsOfState, type Unit } from './units.js';

export const importableModels = [
  'iresnet18',
  'iresnet34',
  'iresnet50',
  'iresnet100',
  'mobilefacenet',
] as const;

export interface ImportOptions {
  model: (typeof importableModels)[number];
  /** The run directory to make. */
  out: string;
  colour: 'RGB' | 'BGR';
  /** Pixels are brought to (pixel - mean) / scale. */
  mean: number;
  scale: number;
}

/** Floating-point tensors; the others count something and are left out. */
function safetensorsState(file: string): StateDict {
  const state: StateDict = new Map();
  for (const [name, { type, shape, data }] of readForeignTensors(file)) {
    if (!(type in readFloat)) continue;
    const read = readFloat[type as keyof typeof readFloat];
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    const size = shape.reduce((product, n) => product * n, 1);
    const bytes = data.length / size;
    state.set(name, { shape, values: Float32Array.from({ length: size }, (_, i) => read(view, i * bytes)) });
  }
  if (state.has('network.body.0.layers.0.weight'))
    throw new UserError(
      `${file}: expected weights of another program, found turl's own: use the run that has them, or its turl export --out NAME.onnx`,
    );
  return state;
}

export function readUnits(file: string): Unit[] {
  switch (extname(file).toLowerCase()) {
    case '.onnx':
      return unitsOfOnnx(file);
    case '.safetensors':
      return unitsOfState(inNetworkOrder(safetensorsState(file)), file);
    case '.pt':
    case '.pth':
    case '.ckpt':
      return unitsOfState(readTorchFile(file), file);
    default:
      throw new UserError(`${file}: expected a name that ends in .onnx, .safetensors, .pt, .pth or .ckpt`);
  }
}

/**
 * Makes a run directory whose only checkpoint, of step 0, is the network of the file. It has no prototypes: training that starts
 * from it begins with new ones.
 * @returns the length of the embedding
 * @throws UserError when a layer is missing, too many, or of another shape, naming it
 */
export function importWeights(file: string, options: ImportOptions): number {
  const units = readUnits(file);
  const last = units.findLast((unit) => unit.kind === 'weight');
  const size = last?.kind === 'weight' ? (last.weight.shape[0] ?? 0) : 0;
  if (size === 0) throw new UserError(`${file}: expected the weights of a network, found none`);
  const config = configFrom(
    {
      name: options.model,
      purpose: `Weights of ${file}, imported.`,
      work_dir: options.out,
      model: { name: options.model, input_size: 112, embedding_size: size },
      data: { source: 'synthetic', identities: 2, image_size: 112 },
      loss: { type: 'cosface', groups: 1, lambda_reg: 0, lambda_cls: 0, lambda_adv: 0 },
    },
    [
      { source: `--mean ${options.mean}`, path: 'data.pixel_mean', value: options.mean },
      { source: `--scale ${options.scale}`, path: 'data.pixel_scale', value: options.scale },
    ],
  );
  const experiment = new Experiment(config, 2);
  try {
    fitUnits(experiment.backbone, units, { file, colour: options.colour });
    const run = RunDirectory.create(config, new Date(), () => 'choose another --out');
    try {
      saveCheckpoint(run, experiment, 0, { parts: 'network' });
    } finally {
      run.close();
    }
  } finally {
    experiment.dispose();
  }
  return size;
}
