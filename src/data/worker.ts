// A worker thread of the data layer: does the jobs it is sent, one answer each.
import { parentPort, workerData } from 'node:worker_threads';
import { UserError } from '../tensor/errors.js';
import { jobHandler, type Answer, type Job, type Materials } from './jobs.js';

const handle = jobHandler(workerData as Materials);
parentPort?.on('message', (job: Job) => {
  let answer: Answer;
  try {
    answer = { result: handle(job) };
  } catch (error) {
    answer = {
      error: error instanceof Error ? error.message : String(error),
      user: error instanceof UserError,
    };
  }
  parentPort?.postMessage(answer);
});
