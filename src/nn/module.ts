import type { Tensor } from '../tensor/tensor.js';

/**
 * Part of a network. Parameters, buffers and children are the properties that hold them. A tensor with `requiresGrad` is a parameter,
 * another tensor is a buffer (running statistics, masks), a module or an array of modules are children. Names are the paths
 * of properties: `body.3.convolution1.weight`.
 */
export abstract class Module {
  /** Whether batch statistics and dropout behave as in training; `train()` and `evaluate()` set it. */
  training = true;

  *#children(): Generator<[string, Module]> {
    for (const [name, value] of Object.entries(this) as [string, unknown][])
      if (value instanceof Module) yield [name, value];
      else if (Array.isArray(value))
        for (const [i, item] of (value as unknown[]).entries())
          if (item instanceof Module) yield [`${name}.${i}`, item];
  }

  *#tensors(): Generator<[string, Tensor]> {
    for (const [name, value] of Object.entries(this) as [string, unknown][])
      if (typeof value === 'object' && value !== null && 'storage' in value) yield [name, value as Tensor];
    for (const [child, module] of this.#children())
      for (const [name, tensor] of module.#tensors()) yield [`${child}.${name}`, tensor];
  }

  /** Parameters and buffers by name: all that a checkpoint keeps. */
  state(): Map<string, Tensor> {
    return new Map(this.#tensors());
  }
  /** What is trained, by name. One that several modules share has the first of its names. */
  parameters(): Map<string, Tensor> {
    const found = new Set<Tensor>();
    const isNew = (tensor: Tensor) => found.size < found.add(tensor).size;
    return new Map([...this.#tensors()].filter(([, tensor]) => tensor.requiresGrad && isNew(tensor)));
  }

  /** Sets `training` here and in all modules inside. */
  train(training = true): this {
    this.training = training;
    for (const [, module] of this.#children()) module.train(training);
    return this;
  }
  /** `train(false)`. */
  evaluate(): this {
    return this.train(false);
  }

  /** Frees parameters and buffers, those of the modules inside too. */
  dispose(): void {
    for (const [, tensor] of this.#tensors()) tensor.dispose();
  }
}
