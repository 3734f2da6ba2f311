// Smooth value noise on the plane: a fixed table of random values, interpolated; an offset picks another pattern.
import { Draws, purposes } from '../../tensor/philox.js';

const side = 64;
const draws = new Draws(0, purposes.faceTexture, 0, 0);
const table = Float32Array.from({ length: side * side }, () => draws.uniform(-1, 1));
const at = (x: number, y: number): number => table[(y & (side - 1)) * side + (x & (side - 1))] ?? 0;

/** A value in [-1, 1] that changes smoothly over distances of 1. */
export function noise(x: number, y: number): number {
  const x0 = Math.floor(x);
  const y0 = Math.floor(y);
  const fx = x - x0;
  const fy = y - y0;
  const top = at(x0, y0) + (at(x0 + 1, y0) - at(x0, y0)) * fx;
  const bottom = at(x0, y0 + 1) + (at(x0 + 1, y0 + 1) - at(x0, y0 + 1)) * fx;
  return top + (bottom - top) * fy;
}
