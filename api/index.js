// What Vercel calls. Plain JavaScript: the bundle is built and type-checked by our own tools.
export { default } from '../build/vercel/index.js';
