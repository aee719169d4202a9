/**
 * What sending a mail takes: React Email and nodemailer, together more than the rest of a cold
 * start. Loaded by loadMailer alone, when there is a mail to render.
 */
export { renderMail } from './renderMail.tsx';
export { createSmtpTransport } from './smtpTransport.ts';
