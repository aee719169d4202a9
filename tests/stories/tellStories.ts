/** Tells each story anew to a user of its own, in every way it is to be told. */
import { afterAll, beforeAll, describe, it } from '@jest/globals';
import { testDatabase } from '../support/postgres.ts';
import { openStage, type StoryStage, type StoryWorld, type Telling } from './storyWorld.ts';

export type Stories = Readonly<Record<string, (world: StoryWorld) => Promise<void>>>;

/** In order and by five seeds, each form of payload in both. */
export const TELLINGS: [string, Telling][] = [
  ['in order, new shape', { form: 'new', seed: null }],
  ['in order, shape of 2020', { form: 'old', seed: null }],
  ['in order, thin', { form: 'thin', seed: null }],
  ['shuffled and doubled 1, new shape', { form: 'new', seed: 1 }],
  ['shuffled and doubled 2, shape of 2020', { form: 'old', seed: 2 }],
  ['shuffled and doubled 3, thin', { form: 'thin', seed: 3 }],
  ['shuffled and doubled 4, new shape', { form: 'new', seed: 4 }],
  ['shuffled and doubled 5, shape of 2020', { form: 'old', seed: 5 }],
];

const FORMS = ['new', 'old', 'thin'] as const;
/** The same by 200 seeds, in the three forms by turns. */
export const LONG_TELLINGS: [string, Telling][] = Array.from({ length: 200 }, (_, n) => [
  `shuffled and doubled by seed ${n + 1}`,
  { form: FORMS[(n + 1) % FORMS.length] ?? 'new', seed: n + 1 },
]);

export function tellStories(stories: Stories, tellings: [string, Telling][]): void {
  const database = testDatabase();
  let stage: StoryStage;
  beforeAll(async () => {
    stage = await openStage(database.current);
  });
  afterAll(() => stage.stop());

  describe.each(Object.entries(stories))('%s', (_name, story) => {
    it.each(tellings)('told %s', async (_how, telling) => {
      await story(stage.world(telling));
    });
  });
  it('leaves the books of all of them in order', () => stage.proveBooks());
}
