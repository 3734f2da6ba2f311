export { Module } from './module.js';
export { Initialiser } from './initialise.js';
export * from './layers.js';
export { Backbone, type BackboneOutput } from './backbone.js';
export { iresnet, iresnetBlocks, type IResNetOptions } from './iresnet.js';
export { mobilefacenet, type MobileFaceNetOptions } from './mobilefacenet.js';
export { Optimizer, type AdamWOptions, type OptimizerOptions, type SgdOptions } from './optimizer.js';
export { rateFactor, type Schedule } from './schedule.js';
