import { afterAll, beforeAll, describe, it } from '@jest/globals';
import { testDatabase } from '../support/postgres.ts';
import { MONEY_BACK_STORIES } from './moneyBackStories.ts';
import { openStage, type StoryStage, type Telling } from './storyWorld.ts';

const database = testDatabase();
let stage: StoryStage;
beforeAll(async () => {
  stage = await openStage(database.current);
});
afterAll(() => stage.stop());

const TELLINGS: [string, Telling][] = [
  ['in order, new shape', { form: 'new', seed: null }],
  ['in order, shape of 2020', { form: 'old', seed: null }],
  ['in order, thin', { form: 'thin', seed: null }],
  ['shuffled and doubled 1, new shape', { form: 'new', seed: 1 }],
  ['shuffled and doubled 2, shape of 2020', { form: 'old', seed: 2 }],
  ['shuffled and doubled 3, thin', { form: 'thin', seed: 3 }],
  ['shuffled and doubled 4, new shape', { form: 'new', seed: 4 }],
  ['shuffled and doubled 5, shape of 2020', { form: 'old', seed: 5 }],
];

describe.each(Object.entries(MONEY_BACK_STORIES))('%s', (_name, story) => {
  it.each(TELLINGS)(
    'told %s',
    async (_how, telling) => {
      await story(stage.world(telling));
    },
    120_000,
  );
});
