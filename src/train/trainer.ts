/**
 * The training loop: data ahead of the step, one update at a time, metrics, checkpoints, evaluation. A run that is stopped at any
 * moment and resumed from its latest checkpoint gives the same weights, bit for bit, as one that was not.
 */
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Config } from '../config/index.js';
import { openDataset, type CheckProgress, type Dataset } from '../data/dataset.js';
import { batchRing, copyBatch, type Batch } from '../data/loader.js';
import { balancedSampling } from '../data/sampling.js';
import { evaluate, type TestSet } from '../evaluate/evaluate.js';
import { evaluationCsv, evaluationJson, evaluationTable, type Evaluation } from '../evaluate/table.js';
import { openTestSet } from '../evaluate/test-set.js';
import { UserError } from '../tensor/errors.js';
import { writeAtomic } from './atomic.js';
import {
  checkTrainingSet,
  checkpointIdentities,
  loadCheckpoint,
  loadWeights,
  saveCheckpoint,
} from './checkpoint.js';
import { Experiment } from './experiment.js';
import type { Learner, TrainingBatch, UpdateReport } from './learner.js';
import { buildLearner } from './stages.js';
import { trainingLoader } from './network-input.js';
import { writeBatchSheet } from './preview.js';
import { PhaseClock } from './phase-clock.js';
import { Progress } from './progress.js';
import { findCheckpoint, resumePoint, RunDirectory, type Checkpoint } from './run-directory.js';

export interface TrainOptions {
  /** Continue the run in this directory instead of starting one. */
  resume?: string;
  /** When it aborts, the step is finished and a checkpoint written. */
  signal?: AbortSignal;
  onCheck?: CheckProgress | undefined;
  /** Told when all that it needs is there, just before the run directory is written to. */
  onBegin?: () => void;
}

export interface TrainResult {
  /** The run directory. */
  run: string;
  /** Updates done. */
  step: number;
  interrupted: boolean;
  evaluation: Evaluation | undefined;
}

/** The number of updates that a configuration asks for. */
export function stepsOf({ train }: Config, images: number): number {
  return (
    train.steps ?? Math.max(1, Math.floor((train.epochs * images) / (train.batch_size * train.accumulate)))
  );
}

/** Says which files could not be used; at most five names. */
export function describeBroken(broken: Dataset['broken']): string | undefined {
  if (broken.length === 0) return undefined;
  const names = broken.slice(0, 5).map(({ file, reason }) => `${file} (${reason})`);
  return `${broken.length} images were skipped: ${names.join(', ')}${broken.length > 5 ? ', ...' : ''}`;
}

/** What a training takes. */
export interface Inputs {
  dataset: Dataset;
  test: TestSet | undefined;
  /** The checkpoint whose weights it starts from: that to go on from, else that of config.from. */
  start: string | undefined;
  /** N, of the prototypes. */
  identities: number;
}

/**
 * Opens what training `config` takes, before anything is written; with `render` as openDataset does, for the run that `resume` names.
 * @throws UserError when a part of it is not there, or does not do
 */
export async function openInputs(
  config: Config,
  {
    render = false,
    resume,
    onCheck,
  }: { render?: boolean; resume?: string | undefined; onCheck?: CheckProgress | undefined } = {},
): Promise<Inputs> {
  const latest = resume === undefined ? undefined : resumePoint(resume);
  const from = config.from === null || latest ? undefined : findCheckpoint(config.from).checkpoint.file;
  const start = latest?.file ?? from;
  const dataset = await openDataset(config, { render, onCheck });
  if (resume !== undefined && latest) checkTrainingSet(resume, latest.file, dataset.train);
  // The batches are drawn later; that there are identities enough for one is checked now.
  if (config.data.sampling !== null) balancedSampling(dataset.train, config.data.sampling, config.seed);
  // A model of attributes has no embeddings to verify with.
  const test =
    config.stage === 'attributes' ? undefined : await openTestSet(config, () => Promise.resolve(dataset));
  // The prototypes are the start's when they are not trained: the images may be of others.
  const identities =
    config.stage === 'uncertainty' && start !== undefined
      ? checkpointIdentities(start)
      : dataset.train.identities;
  return { dataset, test, start, identities };
}

/** Trains `config`, or continues the run that `resume` names with its own configuration. */
export async function train(
  config: Config,
  { resume, signal, onCheck, onBegin }: TrainOptions = {},
): Promise<TrainResult> {
  const latest = resume === undefined ? undefined : resumePoint(resume);
  const first = latest?.step ?? 0;
  const { dataset, test, start, identities } = await openInputs(config, { render: true, resume, onCheck });
  // Before there is a run directory: it would keep the configuration.
  batchRing(dataset.train, config.train.batch_size, config.data.prefetch);
  const learner = buildLearner(config, identities, !latest);
  if (latest) loadCheckpoint(latest.file, learner, first);
  else if (start !== undefined) loadWeights(start, learner);
  onBegin?.();
  const run = resume === undefined ? RunDirectory.create(config) : RunDirectory.resume(resume, first);
  try {
    const tested =
      test && learner instanceof Experiment
        ? (versions?: Versions) => evaluate(learner, test, versions)
        : undefined;
    const trainer = new Trainer(run, learner, dataset, tested, latest);
    return await trainer.run(first, signal);
  } finally {
    run.close();
    learner.dispose();
  }
}

type Versions = Parameters<typeof evaluate>[2];

class Trainer {
  readonly #steps: number;
  readonly #progress: Progress;
  readonly #trainingSet: string;
  #lastGood: string | undefined;

  constructor(
    readonly directory: RunDirectory,
    readonly learner: Learner,
    readonly dataset: Dataset,
    readonly test: ((versions?: Versions) => Promise<Evaluation>) | undefined,
    latest: Checkpoint | undefined,
  ) {
    this.#steps = stepsOf(learner.config, dataset.train.images);
    this.#trainingSet = dataset.train.digest();
    this.#progress = new Progress({ total: this.#steps, done: latest?.step ?? 0 });
    this.#lastGood = latest?.file;
  }

  async run(first: number, signal: AbortSignal | undefined): Promise<TrainResult> {
    const { config } = this.learner;
    const broken = describeBroken(this.dataset.broken);
    if (broken) this.#progress.note(broken);
    const { soft, train } = this.dataset;
    if (soft && soft.missing > 0)
      this.#progress.note(
        `${soft.missing} of ${train.images} training images have no labels of ${soft.names.join(', ')}`,
      );
    const loader = trainingLoader(config, this.dataset.train, first * config.train.accumulate);
    let step = first;
    let evaluation: Evaluation | undefined;
    try {
      if (first === 0 && this.test) await this.#evaluate(this.test, 0, 'before training', [{}]);
      // A run may have been stopped after a checkpoint, before the evaluation that follows it.
      else if (
        this.test &&
        this.#isEvaluated(first) &&
        !this.directory.logged(first, ['test/accuracy/clean'])
      )
        await this.#evaluate(this.test, first);
      let mark = { step, time: performance.now(), waited: loader.waitedMilliseconds };
      while (step < this.#steps) {
        // Batches that are ready follow one another without a turn of the event loop: Ctrl-C would not be heard.
        await nextTurn();
        if (signal?.aborted === true) break;
        const batches: Batch[] = [];
        for (let i = 0; i < config.train.accumulate; i++)
          batches.push(config.train.accumulate === 1 ? await loader.next() : copyBatch(await loader.next()));
        if (step === 0)
          await writeBatchSheet(
            join(this.directory.path, 'faces.png'),
            this.learner.device,
            config,
            batches[0] as Batch,
          );
        const logged = (step + 1) % config.train.log_every === 0 || step + 1 === this.#steps;
        const clock = logged ? new PhaseClock(this.learner.device) : undefined;
        const report = this.#update(
          batches.map((batch) => ({ ...batch, soft: this.dataset.soft?.rows(batch.images) })),
          step,
          clock,
        );
        step++;
        const seconds = (performance.now() - mark.time) / 1000;
        const images = (step - mark.step) * config.train.batch_size * config.train.accumulate;
        const waiting = (loader.waitedMilliseconds - mark.waited) / 1000 / seconds;
        const shown = { rate: images / seconds, waiting, losses: shownLosses(report) };
        if (clock) {
          this.directory.log(step, {
            ...Object.fromEntries(
              Object.entries(report.losses).map(([key, value]) => [`train/${key}`, value]),
            ),
            'train/learning_rate': report.learningRate,
            'train/gradient_norm': report.gradientNorm,
            'speed/images_per_second': shown.rate,
            'speed/waiting_share': waiting,
            ...Object.fromEntries(
              [...clock.milliseconds].map(([phase, spent]) => [`milliseconds/${phase}`, spent]),
            ),
            'memory/live_bytes': this.learner.device.statistics().live,
          });
          this.#progress.log(step, shown);
          mark = { step, time: performance.now(), waited: loader.waitedMilliseconds };
        } else this.#progress.step(step, shown);
        // What is not training does not count in its speed.
        const pause = performance.now();
        if (step % config.train.checkpoint_every === 0 && step < this.#steps) this.#checkpoint(step);
        if (this.test && this.#isEvaluated(step)) await this.#evaluate(this.test, step);
        mark.time += performance.now() - pause;
      }
      if (step > first) this.#checkpoint(step);
      if (step === this.#steps && this.test) evaluation = await this.#evaluate(this.test, step);
    } finally {
      this.#progress.stop();
      await loader.close();
    }
    return { run: this.directory.path, step, interrupted: step < this.#steps, evaluation };
  }

  /** Whether the network is evaluated after `step` updates, before the last one. */
  #isEvaluated(step: number): boolean {
    const every = this.learner.config.train.evaluate_every;
    return every !== null && step % every === 0 && step < this.#steps;
  }

  #update(batches: readonly TrainingBatch[], step: number, clock: PhaseClock | undefined): UpdateReport {
    this.learner.onPhase = clock && ((phase) => clock.enter(phase));
    try {
      const report = this.learner.update(batches, step, this.#steps);
      clock?.enter(undefined);
      return report;
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      const good = this.#lastGood ?? 'none';
      throw new UserError(`stopped at step ${step + 1}: ${error.message}; last good checkpoint: ${good}`);
    }
  }

  #checkpoint(step: number): void {
    const about = { training_set: this.#trainingSet };
    this.#lastGood = saveCheckpoint(this.directory, this.learner, step, about);
  }

  /** Evaluates, keeps the result beside the run's metrics, and gives it back. */
  async #evaluate(
    test: NonNullable<Trainer['test']>,
    step: number,
    what = '',
    versions?: Versions,
  ): Promise<Evaluation> {
    const result = await test(versions);
    await writeEvaluation(this.directory.path, step, result);
    const metrics = result.rows.map(({ version, verification }): [string, number] => [
      `test/accuracy/${version}`,
      verification.accuracy.mean,
    ]);
    this.directory.log(step, Object.fromEntries(metrics));
    const [clean] = result.rows;
    if (clean && step < this.#steps)
      this.#progress.note(
        `${what || `step ${step}`}: ${(100 * clean.verification.accuracy.mean).toFixed(2)} % of the clean test pairs are right`,
      );
    return result;
  }
}

function shownLosses({ losses }: UpdateReport): Record<string, number> {
  const { identification, uncertainty, classification, adversarial, accuracy, confidence, attributes } =
    losses;
  if (attributes !== undefined)
    return { attributes, adv: adversarial ?? NaN, adversary: losses.discriminator ?? NaN };
  if (uncertainty !== undefined) return { loss: uncertainty, confidence: confidence ?? NaN };
  return {
    loss: identification ?? NaN,
    cls: classification ?? NaN,
    adv: adversarial ?? NaN,
    accuracy: accuracy ?? NaN,
  };
}

/** Writes evaluation-STEP.json, .csv and .txt into the run directory. */
export async function writeEvaluation(run: string, step: number, evaluation: Evaluation): Promise<void> {
  const file = join(run, `evaluation-${String(step).padStart(6, '0')}`);
  writeAtomic(`${file}.json`, evaluationJson(evaluation));
  writeAtomic(`${file}.csv`, await evaluationCsv(evaluation));
  writeAtomic(`${file}.txt`, `${evaluationTable(evaluation)}\n`);
}
