export { Tape, noGrad, record, isRecording, type Backward } from './tape.js';
export { checkGradients, type GradientCheckOptions } from './gradient-check.js';
export { prelu } from './ops/prelu.js';
