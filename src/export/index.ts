/** Trained networks as files that other programs run (ONNX) or read (safetensors). */
import { extname } from 'node:path';
import { configToYaml, type Config, type Override } from '../config/index.js';
import { withRun } from '../evaluate/run.js';
import type { Experiment } from '../train/experiment.js';
import { checkOutput, writeAtomic } from '../train/atomic.js';
import { tensorSources } from '../train/checkpoint.js';
import { versions } from '../train/environment.js';
import { prefixed } from '../train/learner.js';
import { writeSafetensors } from '../train/safetensors.js';
import { OnnxGraph, type OnnxValue } from './onnx-format.js';
import { addConfidence, addNetwork } from './onnx-network.js';

export const exportFormats = ['.onnx', '.safetensors'] as const;

/**
 * What an ONNX model takes: `normalised` float32 [batch, 3, size, size] that the caller has brought to (pixel - mean) / scale, as the
 * models of this field do, or `bytes` uint8 [batch, size, size, 3] as decoders give them.
 */
export const inputKinds = ['normalised', 'bytes'] as const;
export type InputKind = (typeof inputKinds)[number];

export interface Exported {
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
}

/** Says all that a caller must know to use the network rightly; goes into every exported file. */
function contract({ model, data, loss }: Config, input: InputKind) {
  return {
    'turl.version': versions().turl,
    'turl.commit': versions().commit ?? '',
    'turl.input': JSON.stringify({
      kind: input,
      layout: input === 'bytes' ? 'NHWC' : 'NCHW',
      colour: 'RGB',
      size: model.input_size,
      crop: `${model.input_size} pixels from the centre of ${data.image_size}`,
      mean: data.pixel_mean,
      scale: data.pixel_scale,
      value: input === 'bytes' ? 'pixel, 0 to 255' : '(pixel - mean) / scale',
      alignment: 'as the training images: five points on the 112-pixel template, then brought to the size',
    }),
    'turl.output': JSON.stringify({
      embedding: `${model.embedding_size} values in ${loss.groups} groups, each of length 1`,
      confidence: 's = 1 / variance of each group',
      score: 'dot product of embeddings / groups',
    }),
  };
}

/** The network as the bytes of an ONNX file. */
export function onnxOf(
  experiment: Experiment,
  input: InputKind = 'normalised',
): Exported & { file: Uint8Array } {
  const { config, backbone, loss } = experiment;
  const { input_size: size, embedding_size: width } = config.model;
  const { groups } = config.loss;
  const graph = new OnnxGraph();
  let images = 'images';
  if (input === 'bytes') {
    const floats = graph.node('images.float', 'Cast', [images], { to: 1 });
    const planes = graph.node('images.nchw', 'Transpose', [floats], { perm: [0, 3, 1, 2] });
    const mean = graph.constant('images.mean', Float32Array.of(config.data.pixel_mean), [1]);
    const scale = graph.constant('images.scale', Float32Array.of(config.data.pixel_scale), [1]);
    images = graph.node('images.scaled', 'Div', [graph.node('images.centred', 'Sub', [planes, mean]), scale]);
  }
  const { embedding, features } = addNetwork(graph, backbone, groups, images);
  const inputs: OnnxValue[] = [
    input === 'bytes'
      ? { name: 'images', type: 'uint8', shape: ['batch', size, size, 3], about: 'RGB pixels' }
      : {
          name: 'images',
          type: 'float32',
          shape: ['batch', 3, size, size],
          about: `RGB, (pixel - ${config.data.pixel_mean}) / ${config.data.pixel_scale}`,
        },
  ];
  const outputs: OnnxValue[] = [
    {
      name: embedding,
      type: 'float32',
      shape: ['batch', width],
      about: groups === 1 ? 'of length 1' : `${groups} sub-embeddings, each of length 1`,
    },
  ];
  if (loss.confidence)
    outputs.push({
      name: addConfidence(graph, loss.confidence, backbone, features),
      type: 'float32',
      shape: ['batch', groups],
      about: 'confidence s = 1 / variance of each sub-embedding',
    });
  const file = graph.encode({
    name: config.name,
    version: versions().turl,
    inputs,
    outputs,
    metadata: { ...contract(config, input), 'turl.config': configToYaml(config) },
  });
  return { file, inputs, outputs };
}

/** Network and confidence branch by their names in checkpoints, without what only training needs. */
function writeWeights(file: string, { config, backbone, loss }: Experiment): void {
  const state = new Map([
    ...prefixed('network', backbone.state()),
    ...(loss.confidence ? prefixed('loss.confidence', loss.confidence.state()) : []),
  ]);
  writeSafetensors(file, tensorSources(state), {
    ...contract(config, 'normalised'),
    'turl.config': configToYaml(config),
    format: 'turl weights 1',
  });
}

/**
 * Writes the network of a run or checkpoint to `out`, by the ending of its name.
 * @throws UserError for another ending, or a folder that does not exist
 */
export function exportRun(
  path: string,
  out: string,
  input: InputKind,
  overrides: readonly (string | Override)[] = [],
): Promise<Exported | undefined> {
  checkOutput('--out', out, exportFormats);
  return withRun(path, overrides, (experiment) => {
    experiment.backbone.evaluate();
    if (extname(out) === '.safetensors') {
      writeWeights(out, experiment);
      return Promise.resolve(undefined);
    }
    const { file, ...values } = onnxOf(experiment, input);
    writeAtomic(out, file);
    return Promise.resolve(values);
  });
}
