/** A protocol's evaluation from its metadata, and images with a run or embeddings in a file, to results that say how they came about. */
import { basename } from 'node:path';
import { configFrom, type Config, type Override } from '../../config/index.js';
import { UserError } from '../../tensor/errors.js';
import type { DeviceName } from '../../tensor/device.js';
import { runConfig, findCheckpoint } from '../../train/run-directory.js';
import type { EmbedResult } from '../embed.js';
import { readEmbeddings } from '../embeddings-file.js';
import { degradationName } from '../evaluate.js';
import { identificationDefinitions } from '../identification.js';
import { definitions } from '../metrics.js';
import { withRun } from '../run.js';
import { scoreDefinition, type ScoreName } from '../scores.js';
import { fusionDefinitions, type FusionName } from '../templates.js';
import { embedSet, findEmbeddings, type EmbeddedSet, type Failure } from './embed-set.js';
import { openProtocol } from './index.js';
import { measure, type TaskResult } from './measure.js';
import type { ProtocolSet } from './protocol.js';

/** How the figures came about. */
export interface ProtocolRecord {
  readonly protocol: string;
  readonly set: string;
  readonly rule: string;
  readonly images: number;
  readonly templates: number;
  readonly alignment: string;
  readonly crop: string;
  readonly colour: string;
  readonly flip: string;
  readonly score: string;
  readonly fusion: string;
  readonly thresholds: string;
  readonly ties: string;
  readonly failures: string;
  readonly intervals: string;
  readonly definitions: Readonly<Record<string, string>>;
}

export interface ProtocolEvaluation {
  readonly protocol: ProtocolRecord;
  /** Images that could not be used, and templates that have none left. */
  readonly failed: { readonly images: readonly Failure[]; readonly templates: readonly string[] };
  readonly versions: readonly { readonly version: string; readonly tasks: readonly TaskResult[] }[];
}

export interface ProtocolRequest {
  readonly protocol: string;
  /** The folder of the metadata. */
  readonly dir: string;
  /** A run directory or checkpoint; may be left out where embeddings are given. */
  readonly run?: string | undefined;
  /** The folder of the images, when not in the set's own; they are taken as aligned. */
  readonly images?: string | undefined;
  /** A file that turl embed wrote. */
  readonly embeddings?: string | undefined;
  readonly overrides: readonly (string | Override)[];
  /** Whether the degraded versions of the configuration are tested too. */
  readonly degraded?: boolean;
  /** What is not given here is as the run's configuration says, or as its defaults. */
  readonly score?: ScoreName | undefined;
  readonly fusion?: FusionName | undefined;
  readonly resamples?: number | undefined;
  readonly onProgress?: (images: number, total: number) => void;
}

interface Settings {
  readonly score: ScoreName;
  readonly fusion: FusionName;
  readonly resamples: number;
  readonly seed: number;
  readonly device: DeviceName;
}

const fixed = {
  thresholds:
    'none is chosen beforehand, but that of accuracy on the other folds; a figure at a rate has the best that keeps to it',
  ties: 'equal scores count against the system',
  failures:
    'an image that cannot be read is left out of its template; a template without images is kept: it is accepted in no comparison, ' +
    'found in no search, and raises no false alarm',
};

const mirrored = 'mean of each image and its mirror image';

type HowEmbedded = Pick<ProtocolRecord, 'alignment' | 'crop' | 'colour' | 'flip'>;

function record(
  request: ProtocolRequest,
  set: ProtocolSet,
  how: HowEmbedded,
  { score, fusion, resamples }: Settings,
  groups: number,
): ProtocolRecord {
  return {
    protocol: set.title,
    set: request.dir,
    rule: set.rule,
    images: set.files.length,
    templates: set.people.length,
    ...how,
    score: scoreDefinition(score, groups),
    fusion: set.media ? fusionDefinitions[fusion] : 'none: each image is a template',
    ...fixed,
    intervals:
      resamples > 0
        ? `95 %, bootstrap with ${resamples} resamples of people (of templates where no table tells the person), percentiles`
        : 'none',
    definitions: { ...definitions, ...identificationDefinitions },
  };
}

function results(
  request: ProtocolRequest,
  set: ProtocolSet,
  how: HowEmbedded,
  settings: Settings,
  embedded: readonly { readonly version: string; readonly images: EmbeddedSet }[],
): ProtocolEvaluation {
  const measured = embedded.map(({ version, images }) => ({
    version,
    ...measure(set, images, settings),
  }));
  const [first] = embedded;
  return {
    protocol: record(request, set, how, settings, first?.images.features.groups ?? 1),
    failed: {
      images: first?.images.failures ?? [],
      templates: (measured[0]?.failedTemplates ?? []).map((template) => set.templateName(template)),
    },
    versions: measured.map(({ version, tasks }) => ({ version, tasks })),
  };
}

/** Measures a protocol. @throws UserError for metadata that is missing or malformed, and when there are no images */
export function evaluateProtocol(request: ProtocolRequest): Promise<ProtocolEvaluation> {
  return request.embeddings === undefined
    ? onImages(request)
    : Promise.resolve(onEmbeddings(request, request.embeddings));
}

function howEmbedded(set: ProtocolSet, config: Config): HowEmbedded {
  return {
    alignment:
      set.landmarks === null
        ? 'as the images are'
        : `similarity of the five points in ${basename(set.landmarks)} to the template of ${config.data.image_size} pixels`,
    crop: `${config.model.input_size} pixels from the centre of ${config.data.image_size}`,
    colour: 'RGB',
    flip: config.evaluate.flip ? mirrored : 'none',
  };
}

async function onImages(request: ProtocolRequest): Promise<ProtocolEvaluation> {
  const { protocol, dir, run, images, overrides, degraded = false, onProgress } = request;
  if (run === undefined)
    throw new UserError(`--protocol ${protocol}: expected a run or checkpoint, or --embeddings FILE`);
  const set = openProtocol(protocol, dir, { images });
  return withRun(run, overrides, async (experiment) => {
    const { config } = experiment;
    const embedded = [];
    for (const version of [{}, ...(degraded ? config.evaluate.degrade : [])])
      embedded.push({
        version: degradationName(version),
        images: await embedSet(experiment, set, version, onProgress),
      });
    return results(request, set, howEmbedded(set, config), settingsOf(request, config), embedded);
  });
}

function onEmbeddings(request: ProtocolRequest, file: string): ProtocolEvaluation {
  const { protocol, dir, run, overrides, degraded } = request;
  if (degraded)
    throw new UserError('--degrade: embeddings in a file are of images as they are; expected images');
  const embeddings = readEmbeddings(file);
  const set = openProtocol(protocol, dir, { names: embeddings.names });
  const config =
    run === undefined ? configFrom({}, overrides) : runConfig(findCheckpoint(run).run, overrides);
  const { about } = embeddings;
  const how = {
    alignment: about['alignment'] ?? `as the images of ${file} were`,
    crop: about['crop'] ?? 'not recorded',
    colour: about['colour'] ?? 'not recorded',
    flip: about['flip'] === 'true' ? mirrored : 'none',
  };
  const images = findEmbeddings(set, embeddings, file);
  return results(request, set, how, settingsOf(request, config), [{ version: 'clean', images }]);
}

function settingsOf(request: ProtocolRequest, config: Config): Settings {
  const { score, fusion, resamples } = request;
  return {
    score: score ?? config.evaluate.score,
    fusion: fusion ?? config.evaluate.fusion,
    resamples: resamples ?? config.evaluate.bootstrap,
    seed: config.seed,
    device: config.device,
  };
}

/** The embeddings of all images of a protocol's set, to be kept in a file. @param images their folder, when not in the set's own */
export function embedProtocol(
  run: string,
  { protocol, dir, images }: Pick<ProtocolRequest, 'protocol' | 'dir' | 'images'>,
  overrides: readonly (string | Override)[],
  onProgress?: (images: number, total: number) => void,
): Promise<EmbedResult> {
  const set = openProtocol(protocol, dir, { images });
  return withRun(run, overrides, async (experiment, _run, step) => {
    const { config } = experiment;
    const { features, rows, failures } = await embedSet(experiment, set, {}, onProgress);
    const names = set.files.filter((_, image) => (rows[image] ?? -1) >= 0);
    const { alignment, crop, colour } = howEmbedded(set, config);
    return {
      features,
      names,
      identities: names.map(() => ''),
      about: {
        run: config.name,
        step: String(step),
        model: config.model.name,
        protocol,
        alignment,
        crop,
        colour,
        flip: String(config.evaluate.flip),
      },
      broken: failures,
    };
  });
}
