import { CHECKOUT_STORIES } from './checkoutStories.ts';
import { TELLINGS, tellStories } from './tellStories.ts';

tellStories(CHECKOUT_STORIES, TELLINGS);
