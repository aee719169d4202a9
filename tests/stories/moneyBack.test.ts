import { MONEY_BACK_STORIES } from './moneyBackStories.ts';
import { TELLINGS, tellStories } from './tellStories.ts';

tellStories(MONEY_BACK_STORIES, TELLINGS);
